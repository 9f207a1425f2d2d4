"""`relight relight` of films."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

from relight.cli import main
from relight.export.clips import open_clip
from relight.export.images import write_film, write_image

SHADING = ["--model", "shading"]
LEFT = [*SHADING, "--direction", "top-left"]


def ball(i: int, size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Frame and mask of a ball that moves to the right, on black."""
    line = (torch.arange(size) + 0.5) / (size / 2) - 1
    y, x = torch.meshgrid(line / 0.6, (line + 0.25 - 0.02 * i) / 0.6, indexing="ij")
    z = (1 - x * x - y * y).clamp_min(0).sqrt()
    return (0.1 + 0.6 * z)[..., None].expand(-1, -1, 3) * (z > 0)[..., None], (z > 0).float()


@pytest.fixture
def film(tmp_path, monkeypatch) -> str:
    """14 frames with a tone; its folder is the working folder."""
    monkeypatch.chdir(tmp_path)
    write_film("silent.mp4", (ball(i)[0] for i in range(14)), 10.0, quality=8)
    write_film("cut.mp4", (ball(i)[1][..., None].expand(-1, -1, 3) for i in range(14)), 10.0, quality=8)
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", "silent.mp4", "-f", "lavfi", "-i",
         "sine=duration=1.4", "-c:v", "copy", "-c:a", "aac", "film.mp4"], check=True,
    )  # fmt: skip
    return "film.mp4"


def sides(path: str, frame: int = 6) -> tuple[float, float]:
    picture = list(open_clip(path).frames())[frame].mean(-1)
    middle = int((picture.sum(0) * torch.arange(40)).sum() / picture.sum())
    return float(picture[:, :middle].mean()), float(picture[:, middle:].mean())


def test_a_film_is_relit_with_its_sound(film, capsys):
    assert main(["relight", film, *LEFT, "--window", "8", "--overlap", "2", "-o", "left.mp4"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("wrote left.mp4 (14 frames)\ngeometry kept to ")
    made = open_clip("left.mp4")
    assert made.sound and len(list(made.frames())) == 14
    left, right = sides("left.mp4")
    assert left > 1.2 * right
    assert not Path("left.mp4.parts").exists()
    assert main(["relight", film, *LEFT, "-o", "left.mp4"]) == 2
    assert "--force replaces it" in capsys.readouterr().err


def test_in_front_of_another_background(film, monkeypatch):
    from relight.cli import picture_light

    seen = []

    def panorama(background, fov):
        seen.append(float(background.mean()))
        return torch.full((8, 16, 3), 0.2 + float(background.mean()))

    monkeypatch.setattr(picture_light, "_panorama", panorama)
    write_image("red.png", torch.tensor([0.8, 0.1, 0.1]).expand(30, 30, 3))
    write_film("grey.mp4", (torch.full((30, 30, 3), 0.1 + 0.08 * i) for i in range(10)), 10.0)
    made = []
    for background in ("red.png", "grey.mp4"):
        assert main(["relight", film, *SHADING, "--mask", "cut.mp4", "--background", background, "--force",
                     "-o", "behind.mp4"]) == 0  # fmt: skip
        made.append(torch.stack(list(open_clip("behind.mp4").frames())))
    corner = made[0][5, -4:, -4:].mean((0, 1))
    assert float(corner[0]) == pytest.approx(0.8, abs=0.06) and float(corner[1]) == pytest.approx(0.1, abs=0.06)
    brightness = made[1][:, -4:, -4:].mean((1, 2, 3))
    assert torch.allclose(brightness[:10], 0.1 + 0.08 * torch.arange(10.0), atol=0.04)
    assert torch.allclose(brightness[10:], brightness[:4], atol=0.03)  # shorter, so it begins again
    assert len(seen) == 1 + 5  # of the film: every other frame, at most eight


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([*LEFT, "-o", "a.png"], "expected FILE.mp4"),
        ([*LEFT, "-o", "a.mp4", "--sweep", "b.mp4"], "--sweep: is for pictures"),
        ([*SHADING, "-o", "a.mp4"], "found none"),
        ([*LEFT, "-o", "a.mp4", "--window", "4", "--overlap", "3"], "at most half"),
        ([*LEFT, "-o", "a.mp4", "--mask", "short.mp4"], "short.mp4: ends at frame 3"),
        ([*LEFT, "-o", "a.mp4", "--mask", "small.png"], "is 8x8, the film 40x40"),
        ([*LEFT, "-o", "a.mp4", "--video-model", "wann"], "did you mean 'wan'"),
        ([*SHADING, "-o", "a.mp4", "--background", "silent.mp4", "--mask", "white.png"], "has no outline"),
    ],
)
def test_mistakes(film, options, complaint, capsys):
    write_film("short.mp4", (ball(i)[1][..., None].expand(-1, -1, 3) for i in range(3)), 10.0)
    write_image("small.png", torch.ones(8, 8))
    write_image("white.png", torch.ones(40, 40))
    assert main(["relight", film, *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("a.mp4").exists()


def test_killed_and_resumed(film):
    options = [*LEFT, "--window", "6", "--overlap", "2"]
    assert main(["relight", film, *options, "-o", "whole.mp4"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "relight", "relight", film, *options, "-o", "killed.mp4"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    parts = Path("killed.mp4.parts")
    end = time.monotonic() + 120
    while process.poll() is None and not list(parts.glob("0*.mp4")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("killed.mp4").exists() and list(parts.glob("0*.mp4"))
    first = min(parts.glob("0*.mp4"))
    stamp = first.stat().st_mtime_ns
    kept = []
    finish = __import__("relight.export.clips", fromlist=["FilmParts"]).FilmParts.finish

    def finished(self, sound=None):
        kept.append(first.stat().st_mtime_ns)
        return finish(self, sound)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relight.export.clips.FilmParts.finish", finished)
        assert main(["relight", film, *options, "-o", "killed.mp4"]) == 0
    assert kept == [stamp]  # what was there wasn't made again
    one, two = (list(open_clip(path).frames()) for path in ("whole.mp4", "killed.mp4"))
    assert len(one) == len(two) == 14
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
