from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from relight.data import load
from relight.errors import RelightError
from relight.export.images import write_exr
from relight.scene import Frame, Scene
from relight.testing.capture import write_capture
from relight.viewer.display import ESTIMATED, STUDIO, Lamp, Lighting
from relight.viewer.lights import Lamps, Library


@pytest.fixture
def folder(tmp_path):
    for name, color in (("red", (1.0, 0, 0)), ("blue", (0, 0, 1.0))):
        write_exr(tmp_path / f"{name}.exr", {"RGB": torch.tensor(color).expand(16, 32, 3)})
    (tmp_path / "notes.txt").write_text("no light")
    return tmp_path


def test_lights_beside_the_photographs(folder, tmp_path):
    capture = tmp_path / "capture"
    views = load(write_capture(capture)).views
    shutil.copytree(folder, capture / "lights", ignore=shutil.ignore_patterns("capture"))
    scene = Scene(Frame(), views=views)
    library = Library(None)
    library.beside(scene)
    assert library.names() == [STUDIO, "blue", "red"]
    chosen = Library(folder)
    (folder / "red.exr").unlink()
    chosen.beside(scene)
    assert chosen.names() == [STUDIO, "blue", "red"], "a folder that was named counts alone"


def test_lights_of_a_folder(folder):
    library = Library(folder, (0.0, 1.0, 0.0))
    assert library.names() == [STUDIO, "blue", "red"]
    assert library.get("red").radiance[0, 0].tolist() == [1, 0, 0]
    assert library.get("red") is library.get("red")
    head, data = library.thumbnail("blue").split(",")
    assert head == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    red, green, blue = np.asarray(picture).reshape(-1, 3).mean(0)
    assert picture.size == (96, 48) and max(red, green) < 30 < 100 < blue
    for name in ("green", "../red"):
        with pytest.raises(RelightError, match="no such light"):
            library.get(name)
    with pytest.raises(RelightError, match="no such folder"):
        Library(folder / "missing")


def test_a_client_brings_a_light(folder):
    library = Library(folder)
    content = (folder / "red.exr").read_bytes()
    assert library.add("dusk.exr", content) == "dusk"
    assert library.add("red.exr", content) == "red 2"
    assert library.add("../../etc/x y.exr", content) == "x y"
    assert library.names() == [STUDIO, "blue", "red", "dusk", "red 2", "x y"]
    for name, data in (("a.exr", b"nothing"), ("a.txt", content), ("", b"")):
        with pytest.raises(RelightError):
            library.add(name, data)


def test_from_choices_to_lights(folder, scene):
    lamps = Lamps(Library(folder, scene.frame.up))
    red = lamps.environment(Lighting("red"), scene)
    assert red is lamps.environment(Lighting("red"), scene), "kept, with its filtered maps"
    turned = lamps.environment(Lighting(STUDIO, 90.0), scene)
    still = lamps.environment(Lighting(STUDIO), scene)
    ray = torch.nn.functional.normalize(torch.tensor([[0.3, 0.5, 0.8]]), dim=1)
    assert turned.prefiltered is still.prefiltered and not torch.equal(turned.eval(ray), still.eval(ray))
    assert lamps.environment(Lighting(ESTIMATED), scene) is scene.light.main
    assert lamps.environment(Lighting(""), scene) is None
    sun, point = lamps.others(Lighting(lamps=(Lamp("sun", (0.0, 4.0, 0.0)), Lamp("point", (0.0, 2.0, 0.0)))), scene)
    at = torch.zeros(1, 3)
    for light, far in ((sun, True), (point, False)):
        sample = light.sample_light(at, torch.full((1, 2), 0.5))
        assert sample.direction[0].tolist() == pytest.approx([0, 1, 0], abs=1e-2)
        assert bool(sample.distance.isinf()) == far
    # A point light's strength is what arrives at a scene radius, 2 here.
    assert float(point.sample_light(at, torch.zeros(1, 2)).radiance[0, 0]) == pytest.approx(3.0)
