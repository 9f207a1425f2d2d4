"""Features of pixels, gathered on Gaussians: against the definition, and against a splat whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from relight.errors import ShapeError
from relight.fit.feature_space import principal
from relight.fit.uplift import SEEN, Refinement, Seen, gathered, gathered_slowly, uplift
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.protocol import RasterOptions
from relight.render.reference import ReferenceRasterizer
from relight.testing import nasty


@pytest.mark.parametrize("surfels", [False, True])
def test_gathering_is_what_its_definition_says(surfels):
    case = nasty.cloud(40, channels=1)
    gaussians = replace(case.gaussians, surfels=surfels)
    values = torch.randn(case.camera.height, case.camera.width, 5, generator=torch.Generator().manual_seed(1))
    expected = gathered_slowly(ReferenceRasterizer(), gaussians, case.camera, values, RasterOptions())
    found = gathered(SplatCpu(), gaussians, case.camera, values, RasterOptions())
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def two_balls() -> tuple[Gaussians, torch.Tensor, list[Camera]]:
    """200 Gaussians in two heaps that hide each other from some sides, which heap each is of, and eight cameras."""
    g = torch.Generator().manual_seed(0)
    heap = (torch.arange(200) % 2).bool()
    means = 0.15 * torch.randn(200, 3, generator=g) + torch.where(heap, 0.6, -0.6)[:, None] * torch.tensor([1.0, 0, 0])
    gaussians = Gaussians(
        means, torch.randn(200, 4, generator=g), torch.full((200, 3), -2.6), torch.full((200,), 2.0),
        torch.zeros(200, 1, 3),
    )  # fmt: skip
    cameras = []
    for angle in torch.linspace(0, 2 * torch.pi, 9)[:-1].tolist():
        forward = -torch.tensor([torch.cos(torch.tensor(angle)), 0.0, torch.sin(torch.tensor(angle))])
        right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), forward)
        pose = torch.eye(4)
        pose[:3, :3] = torch.stack([right, torch.tensor([0.0, 1.0, 0.0]), forward], 1)
        pose[:3, 3] = -3 * forward
        cameras.append(Camera(pose, 60.0, 60.0, 24, 24, 48, 48))
    return gaussians, heap, cameras


def teacher_pictures(scale: int = 1) -> tuple[Gaussians, torch.Tensor, list[Seen]]:
    """What a teacher says that knows which heap a pixel shows: one direction of 70 for each."""
    gaussians, heap, cameras = two_balls()
    words = torch.randn(2, 70, generator=torch.Generator().manual_seed(2))
    pictures = []
    for camera in cameras:
        image = SplatCpu().rasterize(gaussians, camera, words[heap.long()])
        values = image.features / image.alpha.clamp_min(1e-6)[..., None]
        pictures.append(Seen(camera, values[::scale, ::scale], (image.alpha > 0.5).float()))
    return gaussians, words[heap.long()], pictures


def test_what_pixels_are_of_is_found_for_gaussians():
    gaussians, truth, pictures = teacher_pictures()
    feature, covered = uplift(SplatCpu(), gaussians, pictures)
    assert (covered > SEEN).float().mean() > 0.9
    assert cosine_similarity(feature, truth)[covered > 0.1].min() > 0.95


def test_blocks_of_channels_change_nothing():
    gaussians, _, pictures = teacher_pictures()
    whole, weights = uplift(SplatCpu(), gaussians, pictures, block=128)
    for block in (1, 7, 64):
        found, covered = uplift(SplatCpu(), gaussians, pictures[:], block=block)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(covered, weights)


def test_pixels_that_do_not_count_do_not_count():
    gaussians, _, pictures = teacher_pictures()
    spoilt = [replace(p, values=torch.where(p.weight[..., None] > 0, p.values, 1e3)) for p in pictures]  # type: ignore[index]
    torch.testing.assert_close(uplift(SplatCpu(), gaussians, spoilt), uplift(SplatCpu(), gaussians, pictures))
    nowhere = [replace(p, weight=torch.zeros(48, 48)) for p in pictures]
    feature, covered = uplift(SplatCpu(), gaussians, nowhere)
    assert not covered.any() and not feature.any()


def test_pictures_must_agree_in_channels():
    gaussians, _, pictures = teacher_pictures()
    with pytest.raises(ShapeError, match="70"):
        uplift(SplatCpu(), gaussians, [pictures[0], replace(pictures[1], values=pictures[1].values[..., :3])])
    with pytest.raises(ShapeError, match="at least one"):
        uplift(SplatCpu(), gaussians, [])


@pytest.mark.parametrize("loss", ["cosine", "l1"])
def test_refinement_comes_nearer(loss):
    gaussians, _, pictures = teacher_pictures(scale=2)
    mean, directions, explained = principal(torch.cat([p.values[p.weight[::2, ::2] > 0] for p in pictures]), 2)  # type: ignore[index]
    assert explained > 0.98
    start = 0.3 * torch.randn(len(gaussians), 2, generator=torch.Generator().manual_seed(3))
    field = Refinement(SplatCpu(), gaussians, start, directions, mean, loss=loss, rate=0.3)
    losses = [field.step(pictures[i % 8 : i % 8 + 1]) for i in range(60)]
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])
