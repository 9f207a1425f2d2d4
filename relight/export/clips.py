"""Films in and out, a frame at a time: decoding, films written in parts that survive a kill, sound kept."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import RelightError
from relight.export.images import write_film

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".gif")
CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,gif"
"""Of ffmpeg's names.  Others (playlists, lists of files) name further files and addresses, which it would open."""
MAX_FPS = 1000
MAX_PIXELS = 8192 * 4320
"""Of a frame."""
JOB = "job.json"


@dataclass(frozen=True)
class Clip:
    """A film on disk.  fps: frames a second; films of varying rate are read at their mean one.  seconds: its length.
    aspect: of a pixel, "128:117", where it isn't square.  sound: has it any?  tagged: does it say its colour matrix?
    """

    path: Path
    fps: Fraction
    seconds: float
    height: int
    aspect: str | None = None
    sound: bool = False
    tagged: bool = False

    @property
    def count(self) -> int:
        """Frames, about: only reading tells."""
        return max(1, round(self.seconds * self.fps))

    def frames(self, skip: int = 0) -> Iterator[Tensor]:
        """(H, W, 3) sRGB-encoded values, 0 to 1, from frame `skip` on, upright.  Raises RelightError if it breaks."""
        # What is large and says nothing is Rec.709 to every player, and Rec.601 to ffmpeg.
        matrix = ",scale=in_color_matrix=bt709" if not self.tagged and self.height >= 720 else ""
        command = [
            _ffmpeg(), "-loglevel", "error", *_input(self.path), "-vf", f"fps={self.fps}{matrix}",
            "-f", "image2pipe", "-c:v", "ppm", "-",
        ]  # fmt: skip
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
            assert process.stdout is not None
            try:
                number = 0
                while (pixels := _picture(process.stdout, decode=number >= skip)) is not None:
                    if number >= skip:
                        yield torch.from_numpy(pixels).float() / 255
                    number += 1
                if process.wait() != 0 and number == 0:
                    raise RelightError(f"{self.path}: no frame of it can be read: {_tail(log)}")
            finally:
                process.kill()
                process.stdout.close()
                process.wait()


def open_clip(path: str | Path) -> Clip:
    """Of what ffmpeg says about a file.  Raises RelightError for one that isn't there or no film."""
    path = Path(path)
    if not path.is_file():
        raise RelightError(f"{path}: no such file; expected a film ({', '.join(SUFFIXES)})")
    said = subprocess.run(
        [_ffmpeg(), "-hide_banner", *_input(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).stderr.decode(errors="replace")
    stream = next((line for line in said.splitlines() if re.search(r"Stream #\S+.*: Video:", line)), None)
    if stream is None:
        raise RelightError(f"{path}: no film that ffmpeg can read; expected one of {', '.join(SUFFIXES)}")
    rate = re.search(r"([\d.]+)(k?) fps", stream) or re.search(r"([\d.]+)(k?) tbr", stream)
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    size = re.search(r" (\d{2,5})x(\d{2,5})[ ,]", stream)
    if rate is None or length is None or size is None:
        raise RelightError(f"{path}: says no frame rate, length or size; convert it to .mp4")
    fps = _exact(float(rate[1]) * (1000 if rate[2] else 1))
    if not 0 < fps <= MAX_FPS:
        raise RelightError(f"{path}: says {float(fps):g} frames a second, expected up to {MAX_FPS}; convert it to .mp4")
    hours, minutes, seconds = (float(part) for part in length.groups())
    aspect = re.search(r"SAR (\d+:\d+)", stream)
    return Clip(
        path, fps, 3600 * hours + 60 * minutes + seconds, int(size[2]),
        aspect[1] if aspect and aspect[1] not in ("1:1", "0:1") else None,
        bool(re.search(r"Stream #\S+.*: Audio:", said)), bool(re.search(r"bt709|bt470|smpte170|bt2020", stream)),
    )  # fmt: skip


def _exact(rate: float) -> Fraction:
    """Of a rate that was printed with two decimals: broadcast ones are 1000 / 1001 of whole ones."""
    for whole in (24, 30, 48, 60, 120):
        if abs(rate - whole * 1000 / 1001) < 0.006:
            return Fraction(whole * 1000, 1001)
    return Fraction(rate).limit_denominator(1000)


class FilmParts:
    """A film that is written in parts beside its final place, and put together when all are there.

    job: JSON values of what the film is made from and how; parts of another job aren't continued.  A part is complete
    or absent, so that a process killed at any moment is resumed by opening the same again.
    Raises RelightError for parts of another job, unless `anew`.
    """

    def __init__(
        self, path: str | Path, job: Mapping[str, object], fps: Fraction, *, aspect: str | None = None,
        anew: bool = False, quality: int = 18, folder: Path | None = None,
    ):  # fmt: skip
        self.path, self.fps, self.aspect, self.quality = Path(path), fps, aspect, quality
        self.folder = folder or self.path.with_name(f"{self.path.name}.parts")
        said = json.loads(json.dumps(dict(job), sort_keys=True, default=str))
        if self.folder.exists():
            before = _read_job(self.folder / JOB)
            if before == said:
                return
            if not anew and (before is not None or self.parts):
                old = before or {}
                what = ", ".join(str(k) for k in sorted({*said, *old}) if old.get(k) != said.get(k))
                raise RelightError(
                    f"{self.folder}: holds parts of a film made otherwise ({what}); --force starts anew, or give the "
                    "same options to go on"
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        with replacing(self.folder / JOB) as temporary:
            temporary.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")

    @property
    def parts(self) -> list[Path]:
        """In order, without gaps."""
        found, done = [], 0
        for part in sorted(self.folder.glob("[0-9]*-[0-9]*.mp4")):
            first, count = (int(n) for n in part.stem.split("-"))
            if first != done:
                break
            found, done = [*found, part], first + count
        return found

    @property
    def done(self) -> int:
        """Frames that are finished."""
        return sum(int(part.stem.split("-")[1]) for part in self.parts)

    def add(self, frames: Iterable[Tensor]) -> None:
        """The next part: (H, W, 3) encoded frames."""
        frames = list(frames)
        write_film(
            self.folder / f"{self.done:08d}-{len(frames):04d}.mp4", frames, self.fps, quality=self.quality,
            aspect=self.aspect, part=True,
        )  # fmt: skip

    def finish(self, sound: Path | None = None) -> int:
        """Put together, with the sound of another file as it is (or as AAC, where .mp4 can't hold it); its frames.

        Raises RelightError without parts, or if ffmpeg fails.
        """
        parts, count = self.parts, self.done
        if not parts:
            raise RelightError(f"{self.path}: no frames, so no film")
        listed = self.folder / "list.txt"
        # The list has its own quoting: relative names without quotes in them.
        listed.write_text("".join(f"file '{part.name}'\n" for part in parts), encoding="utf-8")
        source = [] if sound is None else [*_input(sound.resolve()), "-map", "0:v", "-map", "1:a?"]
        with replacing(self.path) as temporary:
            failed = ""
            for codec in ("copy", "aac") if sound is not None else ("copy",):
                command = [
                    _ffmpeg(), "-y", "-loglevel", "error", "-f", "concat", "-i", str(listed), *source, "-c:v", "copy",
                    "-c:a", codec, "-movflags", "+faststart", str(temporary),
                ]  # fmt: skip
                ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
                failed = ended.stderr.decode(errors="replace").strip()[-500:] if ended.returncode else ""
                if not failed:
                    break
            if failed:
                raise RelightError(f"{self.path}: its parts can't be put together: {failed}; they are in {self.folder}")
        shutil.rmtree(self.folder)
        return count


def _read_job(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _ffmpeg() -> str:
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def _input(path: Path) -> list[str]:
    """ffmpeg's words for a film, which may come from anybody."""
    return [
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS), "-i",
        f"file:{path}",
    ]  # fmt: skip


def _picture(pipe: IO[bytes], *, decode: bool) -> np.ndarray | None:
    """The next (H, W, 3) uint8 of a row of binary PPMs; None after the last, or in one that breaks off."""
    if pipe.readline() != b"P6\n":
        return None
    width, height = (int(n) for n in pipe.readline().split())
    pipe.readline()
    pixels = pipe.read(3 * width * height)
    if len(pixels) < 3 * width * height:
        return None
    shape = (height, width, 3)
    return np.frombuffer(pixels, np.uint8).reshape(shape).copy() if decode else np.empty(0, np.uint8)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace").strip()[-300:] or "no message"
