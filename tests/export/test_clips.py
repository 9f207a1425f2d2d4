"""Films read and written in parts."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
from torch import Tensor

from relight.errors import RelightError
from relight.export.clips import Clip, FilmParts, open_clip
from relight.export.images import write_film

RATE = Fraction(30000, 1001)


def grey(i: int) -> Tensor:
    """A frame that says its number by its brightness, and which way is up by a bright first row."""
    frame = torch.full((48, 64, 3), 0.1 + 0.03 * i)
    frame[:6] = 0.95
    return frame


def numbers(path: Path) -> list[int]:
    return [round((float(frame[24:].mean()) - 0.1) / 0.03) for frame in open_clip(path).frames()]


@pytest.fixture
def film(tmp_path) -> Path:
    """20 frames with a tone."""
    silent, path = tmp_path / "silent.mp4", tmp_path / "film.mp4"
    write_film(silent, (grey(i) for i in range(20)), RATE, aspect="128:117")
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", silent, "-f", "lavfi", "-i",
         "sine=frequency=440:duration=0.66", "-c:v", "copy", "-c:a", "aac", path], check=True,
    )  # fmt: skip
    return path


def test_what_a_film_says_and_shows(film):
    clip = open_clip(film)
    assert (clip.fps, clip.aspect, clip.sound) == (RATE, "128:117", True)
    assert clip.count == 20
    assert numbers(film) == list(range(20))
    frames = list(clip.frames(skip=17))
    assert len(frames) == 3 and tuple(frames[0].shape) == (48, 64, 3)
    assert float(frames[0][2].mean()) == pytest.approx(0.95, abs=0.02)


def test_parts_are_put_together_with_sound_and_go_on_where_they_stopped(film, tmp_path):
    out, job = tmp_path / "out.mp4", {"light": "left"}
    parts = FilmParts(out, job, RATE, aspect="128:117")
    parts.add(grey(i) for i in range(7))
    parts.add(grey(i) for i in range(7, 12))
    assert parts.done == 12 and not out.exists()
    again = FilmParts(out, job, RATE)
    assert again.done == 12
    again.parts[0].rename(again.folder / "x")  # what comes after a gap doesn't count
    assert again.done == 0
    (again.folder / "x").rename(again.folder / "00000000-0007.mp4")
    again.add(grey(i) for i in range(12, 20))
    assert again.finish(film) == 20
    assert numbers(out) == list(range(20)) and not again.folder.exists()
    made = open_clip(out)
    assert made.sound and made.fps == RATE and made.count == 20


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'film.mp4'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mp4\n#EXT-X-ENDLIST\n",
    ],
    ids=["list", "playlist"],
)
def test_a_film_that_names_other_files_is_not_read(film, tmp_path, text):
    for name in ("a.mp4", "a.m3u8"):
        (tmp_path / name).write_text(text)
        with pytest.raises(RelightError, match="no film that ffmpeg can read"):
            open_clip(tmp_path / name)
        with pytest.raises(RelightError, match="no frame of it can be read"):
            list(Clip(tmp_path / name, RATE, 1.0, 48).frames())


def test_claims_of_films_are_refused(film, monkeypatch):
    monkeypatch.setattr("relight.export.clips.MAX_PIXELS", 48 * 63)
    with pytest.raises(RelightError, match="no frame of it can be read"):
        list(Clip(film, RATE, 1.0, 48).frames())
    monkeypatch.setattr("relight.export.clips.MAX_FPS", 20)
    with pytest.raises(RelightError, match="frames a second"):
        open_clip(film)


def test_mistakes(film, tmp_path):
    with pytest.raises(RelightError, match="no such file"):
        open_clip(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(RelightError, match="no film that ffmpeg can read"):
        open_clip(tmp_path / "text.mp4")
    out = tmp_path / "out.mp4"
    FilmParts(out, {"light": "left"}, RATE).add([grey(0)])
    with pytest.raises(RelightError, match=r"made otherwise \(light\)"):
        FilmParts(out, {"light": "right"}, RATE)
    assert FilmParts(out, {"light": "right"}, RATE, anew=True).done == 0
    (tmp_path / "begun.mp4.parts").mkdir()  # killed before anything was in it
    assert FilmParts(tmp_path / "begun.mp4", {}, RATE).done == 0
    with pytest.raises(RelightError, match="no frames"):
        FilmParts(out, {"light": "right"}, RATE).finish()
