"""Scores of materials and light: factors drop out, baked light is found, LPIPS agrees with its formula."""

from __future__ import annotations

import math

import pytest
import torch

from relight.errors import DataError
from relight.fit.baked_light import baked_light
from relight.fit.lpips import ALEXNET, VGG16, Lpips, from_tensors
from relight.fit.relighting import _light_error
from relight.geometry.camera import Camera
from relight.render.deferred import GBuffer, gbuffer
from relight.render.splats import create_rasterizer
from relight.shading.environment import Environment


@pytest.fixture
def seen():
    """A buffer of a ball of discs, lit from above; its true albedo varies."""
    from relight.geometry.gaussians import Gaussians

    n = 4000
    i = torch.arange(n) + 0.5
    z, phi = 1 - 2 * i / n, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    normal = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    # The turn of +z to the normal.
    quats = torch.nn.functional.normalize(torch.stack([1 + z, -normal[:, 1], normal[:, 0], 0 * z], 1), dim=1)
    albedo = 0.3 + 0.2 * torch.sin(9 * normal)
    channels = {
        "base_color": albedo, "roughness": torch.full((n,), 0.5), "metallic": torch.zeros(n),
        "progress": torch.ones(n), "normal": normal,
    }  # fmt: skip
    gaussians = Gaussians(
        normal.clone(), quats, torch.full((n, 3), math.log(0.04)), torch.full((n,), 6.0), torch.zeros(n, 1, 3),
        channels=channels, surfels=True,
    )  # fmt: skip
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.0, 0.0, -4.0])
    camera = Camera.from_fov(pose, 0.7, 48, 48)
    light = torch.full((16, 32, 3), 0.1)
    light[:8] = torch.tensor([1.0, 0.9, 0.7])
    return gaussians, camera, Environment(light)


def buffers(seen, albedo) -> list[GBuffer]:
    from dataclasses import replace

    gaussians, camera, _ = seen
    changed = replace(gaussians, channels={**gaussians.channels, "base_color": albedo})
    with torch.no_grad():
        return [gbuffer(create_rasterizer(), changed, camera)]


def test_light_in_the_albedo_is_found_and_factors_are_not_light(seen):
    gaussians, _, light = seen
    true = gaussians.channels["base_color"]
    truth = buffers(seen, true)
    pictures = [b.spread(b.surface.base_color) for b in truth]
    masks = [b.splat.alpha > 0.95 for b in truth]
    shading = light.irradiance(gaussians.channels["normal"])

    def score(found):
        return baked_light(buffers(seen, found), masks, light, None, albedo=pictures)

    half = score(true * torch.tensor([0.5, 0.7, 0.3]) * shading.sqrt())
    assert half.correlation > 0.98 and half.slope == pytest.approx(0.5, abs=0.03) and half.points > 500
    assert score(true / shading.sqrt()).correlation < -0.98
    assert abs(score(true * torch.tensor([0.5, 0.7, 0.3])).slope) < 1e-3
    assert score(true * torch.tensor([0.5, 0.7, 0.3])).correlation == 0
    noise = torch.rand(true.shape, generator=torch.Generator().manual_seed(0))
    assert abs(score(true * (0.9 + 0.2 * noise)).correlation) < 0.1
    # Without truth, patterns of the subject's own count too, but light still shows.
    assert baked_light(buffers(seen, 0.5 * shading), masks, light, None).correlation > 0.98


def test_errors_of_the_light_by_alignment():
    light = Environment(torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(1)))
    twice, tinted = Environment(2 * light.radiance), Environment(light.radiance * torch.tensor([1.0, 2.0, 3.0]))
    assert _light_error(light, light) == pytest.approx({"unscaled": 0, "global": 0, "per channel": 0}, abs=1e-5)
    error = _light_error(twice, light)
    assert error["unscaled"] == pytest.approx(1, abs=1e-4) and error["global"] < 1e-5
    error = _light_error(tinted, light)
    assert error["per channel"] < 1e-5 < 0.1 < error["global"]


def weights(layers: str, kinds: dict[int, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out, stages = {}, []
    for word in layers.split():
        if word == "P":
            continue
        number = int(word.strip("C*").split("/")[0])
        shape = kinds[number]
        out[f"features.{number}.weight"] = torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        out[f"features.{number}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
        if word.endswith("*"):
            stages.append(shape[0])
    for i, channels in enumerate(stages):
        out[f"lin{i}.model.1.weight"] = torch.rand(1, channels, 1, 1, generator=generator)
    return out


WIDTHS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
BEFORE = [3, *list(WIDTHS.values())[:-1]]
VGG = {number: (out, before, 3, 3) for (number, out), before in zip(WIDTHS.items(), BEFORE, strict=True)}
ALEX = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def slow(tensors: dict[str, torch.Tensor], pictures: list[torch.Tensor], alexnet: bool) -> float:
    """The paper's formula, with torch's modules in torchvision's order, a pixel at a time."""
    from torch import nn

    if alexnet:
        modules = [
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
            nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        ]  # fmt: skip
        taken = (1, 4, 7, 9, 11)
    else:
        modules, before = [], 3
        for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
            modules += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
            before = width or before
        taken = (3, 8, 15, 22, 29)
    network = nn.Sequential(*modules)
    network.load_state_dict({k.removeprefix("features."): v for k, v in tensors.items() if "features" in k})
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    stages: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for picture in pictures:
            x, out = ((picture - mean[:, None, None]) / deviation[:, None, None])[None], []
            for i, module in enumerate(network):
                x = module(x)
                if i in taken:
                    out.append(x[0])
            stages.append(out)
    total = 0.0
    for i, (a, b) in enumerate(zip(*stages, strict=True)):
        weight, sums = tensors[f"lin{i}.model.1.weight"].flatten(), []
        for y in range(a.shape[1]):
            for x in range(a.shape[2]):
                u, v = (p[:, y, x] / (p[:, y, x].norm() + 1e-10) for p in (a, b))
                sums.append(float((weight * (u - v) ** 2).sum()))
        total += sum(sums) / len(sums)
    return total


@pytest.mark.parametrize("alexnet", [False, True])
def test_lpips_agrees_with_its_formula(alexnet):
    tensors = weights(ALEXNET, ALEX) if alexnet else weights(VGG16, VGG)
    generator = torch.Generator().manual_seed(3)
    x, y = torch.rand(2, 3, 40, 36, generator=generator).unbind(0)
    lpips = from_tensors({**tensors, "classifier.0.weight": torch.ones(2)}, "here")
    assert isinstance(lpips, Lpips) and lpips.name == ("AlexNet" if alexnet else "VGG16")
    assert lpips(x, x) == 0
    assert lpips(x, y) == pytest.approx(slow(tensors, [x, y], alexnet), rel=2e-3)
    # The names of lpips's own modules.
    renamed = {k.replace("features.", "net.slice1.").replace("lin", "lins."): v for k, v in tensors.items()}
    assert from_tensors(renamed, "here")(x, y) == lpips(x, y)
    tensors.pop("lin3.model.1.weight")
    with pytest.raises(DataError, match="not weights of LPIPS"):
        from_tensors(tensors, "here")
