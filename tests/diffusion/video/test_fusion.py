"""Light fused along motion, windows of long films, and shapes held."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from relight.diffusion.light_words import LightDescription
from relight.diffusion.pictures.geometry import Geometry, from_maps
from relight.diffusion.pictures.relighters import NewLight, RelighterError, ShadingRelighter, Shown
from relight.diffusion.video.feedback import GeometryFeedback, ReliefEstimator, disagreement, kept
from relight.diffusion.video.fusion import FusedRelighter, averaged, fused, steadied
from relight.diffusion.video.motion import EstimatedMotion, ExactMotion
from relight.diffusion.video.protocol import FrameByFrame, Window
from relight.diffusion.video.scores import change_of_light, unsteadiness
from relight.diffusion.video.windows import Frame, Windows
from relight.errors import RelightError
from relight.shading.color import luminance, srgb_to_linear

SIZE = 40


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


class Still:
    """Motion of what doesn't move."""

    def __init__(self, height: int, width: int):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        self.place = torch.stack([x, y], -1)

    def between(self, t: int, s: int) -> tuple[Tensor, Tensor]:
        return self.place, torch.ones(self.place.shape[:2])


def texture(height: int, width: int) -> Tensor:
    """Smooth spots, (H, W, 3)."""
    coarse = torch.rand(1, 3, height // 5, width // 5, generator=Generator().manual_seed(4))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)


def wall(variation: str = "static", count: int = 8, jitter: float = 0.0) -> Window:
    """A textured wall that a camera moves along, in front of which light is as said."""
    whole, frames, shapes, lights = texture(SIZE, SIZE + 2 * count), [], [], []
    tilt = torch.tensor([0.0, 0.3, 1.0]) / 1.09**0.5
    for i in range(count):
        # The shape is guessed anew in each frame, and so a little wrong in another way.
        off = jitter * noise(3, seed=i)
        mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
        shape = from_maps(mask, normal=(tilt + off).expand(SIZE, SIZE, 3), depth=torch.ones(SIZE, SIZE))
        said = replace(LightDescription.parse("direction=-30,30 soft"), variation=variation).at(i / 10)
        frames.append(0.2 + 0.5 * whole[:, 2 * i : 2 * i + SIZE])
        shapes.append(shape)
        lights.append(NewLight(said.lights(shape.world_from_viewer, shape.middle, shape.radius), 0.6, said))
    return Window(frames, shapes, lights)


def test_flow_that_is_planted_is_found():
    window = wall(count=4)
    motion = EstimatedMotion(window.frames).at(SIZE // 2, SIZE // 2)
    place, sure = motion.between(0, 3)
    inner = (slice(4, -4), slice(6, -4))
    assert float(sure[inner].mean()) > 0.8
    start = Still(SIZE // 2, SIZE // 2).place
    off = (place - start)[inner].reshape(-1, 2).median(0).values
    assert off.tolist() == pytest.approx([-3.0, 0.0], abs=0.3)  # 2 pixels a frame, at half the size
    assert float(motion.between(0, 3)[1][:, :2].mean()) < 0.3  # what has left the picture


def test_what_jumps_is_unlikely_the_same():
    frames = [texture(SIZE, SIZE), texture(SIZE, SIZE).flip(0)]
    assert float(EstimatedMotion(frames).between(0, 1)[1].mean()) < 0.3


def test_means_along_motion_steady_what_is_random_and_leave_what_changes_evenly():
    still = Still(6, 6)
    random = noise(15, 6, 6, 1)
    mean = averaged(random, still, 4)
    second = lambda x: float((x[2:] - 2 * x[1:-1] + x[:-2]).abs().mean())  # noqa: E731
    assert second(mean) < 0.15 * second(random)
    even = torch.arange(15.0)[:, None, None, None].expand(15, 6, 6, 1)
    assert torch.allclose(averaged(even, still, 4)[4:-4], even[4:-4], atol=1e-4)
    assert float((averaged(even, still, 4) - even).abs().max()) < 1.0  # ends are late by less than a frame
    assert torch.equal(averaged(random, still, 0), random)


def test_light_that_is_meant_to_flicker_does():
    guides = 0.3 * (1 + 0.5 * torch.tensor([0.0, 1] * 8))[:, None, None, None].expand(16, 6, 6, 3)
    after = guides * 1.2 * torch.exp(0.2 * noise(16, 6, 6, 3))
    made = fused(after, guides, Still(6, 6), 4)
    ratio = (made[1::2] / made[0::2]).mean()
    assert float(ratio) == pytest.approx(1.5, abs=0.06)
    assert float((made / guides)[4:-4].std()) < 0.5 * float((after / guides).std())
    assert torch.allclose(fused(after, guides, Still(6, 6), 4, trust=0.0), guides, atol=1e-5)


def test_flicker_of_guessed_shapes_goes():
    window = wall(jitter=0.25)
    painter = ShadingRelighter(size=SIZE)
    alone, together = FrameByFrame(painter).relit(window), FusedRelighter(painter).relit(window)
    motion = EstimatedMotion(window.frames)

    def flicker(frames: Sequence[Tensor]) -> float:
        changes = [change_of_light(a, b) for a, b in zip(frames, window.frames, strict=True)]
        return unsteadiness(changes, motion)["flicker"]

    assert flicker(together) < 0.3 * flicker(alone)
    means = [float(luminance(srgb_to_linear(torch.stack(frames))).mean()) for frames in (alone, together)]
    assert means[1] == pytest.approx(means[0], rel=0.1)


def test_a_moving_light_still_moves():
    window = wall("pulsing")
    painter = ShadingRelighter(size=SIZE)
    alone, together = FrameByFrame(painter).relit(window), FusedRelighter(painter).relit(window)

    def course(frames: Sequence[Tensor]) -> Tensor:
        return torch.stack([luminance(srgb_to_linear(frame)).mean() for frame in frames])

    assert torch.allclose(course(alone), course(together), rtol=0.06)
    assert float(course(together)[0] / course(together)[-1]) > 1.2


def test_shapes_are_steadied():
    window = wall(jitter=0.25, count=14)
    found = steadied(window.geometries, EstimatedMotion(window.frames).at(20, 20), 4)
    spread = [torch.stack([s.normal for s in shapes[4:-4]]).std(0).mean() for shapes in (window.geometries, found)]
    assert float(spread[1]) < 0.5 * float(spread[0])
    assert torch.allclose(found[0].normal.norm(dim=-1), torch.ones(SIZE, SIZE), atol=1e-5)


def test_guides_decide_where_they_are_trusted():
    window = wall(count=3)
    guide = [torch.full((SIZE, SIZE, 3), 0.25)] * 3
    led = Window(window.frames, window.geometries, window.lights, guides=guide, rendered=True)
    made = FusedRelighter(ShadingRelighter(size=SIZE, detail=0.0), trust=0.0).relit(led)
    assert float((srgb_to_linear(made[1]) - 0.25).abs().mean()) < 0.02


def test_windows_that_do_not_fit_together_are_refused():
    window = wall(count=3)
    with pytest.raises(RelighterError, match="2 lights"):
        Window(window.frames, window.geometries, window.lights[:2])
    with pytest.raises(RelighterError, match="frame 7 has another size"):
        Window([window.frames[0], window.frames[1][:-1], window.frames[2]], window.geometries, window.lights, first=6)
    with pytest.raises(RelightError, match="at most half"):
        Windows(10, 6)


# --- windows


class Marked:
    """Adds the number of its window to frames; counts what it holds."""

    def __init__(self):
        self.seen: list[tuple[int, int]] = []

    def relit(self, window: Window, *, seed: int = 0) -> list[Tensor]:
        self.seen.append((window.first, len(window)))
        return [frame + window.first for frame in window.frames]


def frames(first: int, count: int):
    shape = wall(count=1).geometries[0]
    for i in range(first, count):
        yield Frame(torch.full((SIZE, SIZE, 3), float(i)), shape, NewLight(()))


@pytest.mark.parametrize("count", [1, 8, 9, 20])
@pytest.mark.parametrize(("size", "overlap"), [(8, 2), (8, 4), (3, 0)])
def test_windows_give_each_frame_once_and_resumed_the_same(count, size, overlap, monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # a test process holds much else
    windows, marked = Windows(size, overlap), Marked()
    parts = list(windows.relit(frames(0, count), marked))
    whole = [float(frame[0, 0, 0]) for part in parts for frame in part]
    assert len(whole) == count and all(n <= size for _, n in marked.seen)
    if overlap == 0:
        assert whole == [i + i // size * size for i in range(count)]
    else:  # faded: from one window's mark to the next's
        assert all(0 <= value - i <= i for i, value in enumerate(whole))
    done = 0
    for k, part in enumerate(parts[:-1]):
        done += len(part)
        assert done == (k + 1) * windows.step
        again = windows.relit(frames(windows.begins(done), count), Marked(), done=done)
        assert [float(f[0, 0, 0]) for p in again for f in p] == whole[done:]


@pytest.mark.slow
def test_what_is_done_is_forgotten():
    alive: list[weakref.ref] = []

    def shots():
        for _ in range(30):
            shape = wall(count=1).geometries[0]
            assert shape.rays is shape.rays  # which names the shape in turn
            alive.append(weakref.ref(shape))
            yield Frame(torch.zeros(SIZE, SIZE, 3), shape, NewLight(()))

    gc.disable()
    try:
        most = 0
        for _ in Windows(4, 1).relit(shots(), Marked()):
            most = max(most, sum(ref() is not None for ref in alive))
    finally:
        gc.enable()
    assert most <= 2 * 4 + 3


# --- shapes


def bumpy(amount: float) -> tuple[Tensor, list[Geometry]]:
    shape = wall(count=1).geometries[0]
    x = torch.linspace(0, 25, SIZE)
    waves = amount * (x.sin()[None] * x.cos()[:, None])[..., None].expand(-1, -1, 3)
    return (0.5 + waves)[None].clamp(0, 1), [shape]


def test_invented_relief_is_noticed_and_led_back():
    (flat, shapes), (invented, _) = bumpy(0.0), bumpy(0.2)
    read = ReliefEstimator(shapes)
    masks = shapes[0].mask[None]
    assert float(disagreement(read(flat), read(flat), masks)) == 0
    assert kept(flat * 0.6, flat, shapes)["normals, degrees"] < 0.5  # darker isn't another shape
    assert kept(invented, flat, shapes)["normals, degrees"] > 2
    held = GeometryFeedback(0.05, rounds=12).held(invented, flat, shapes)
    before, after = (float(disagreement(read(p), read(flat), masks)) for p in (invented, held))
    assert after < 0.6 * before
    assert float((held - flat).abs().mean()) < float((invented - flat).abs().mean())
    assert torch.equal(GeometryFeedback().held(flat, flat, shapes), flat)


def test_exact_motion_of_a_turning_camera():
    shape = wall(count=1).geometries[0]
    pose = shape.camera.world_from_camera.clone()
    pose[:3, 3] += 0.1 * pose[:3, 0]  # to the right
    moved = replace(shape, camera=replace(shape.camera, world_from_camera=pose))
    place, sure = ExactMotion([shape, moved]).between(0, 1)
    off = (place - Still(SIZE, SIZE).place)[SIZE // 2, SIZE // 2]
    assert off.tolist() == pytest.approx([-0.1 * shape.camera.fx, 0.0], abs=0.05)
    assert float(sure[:, 10:-2].mean()) > 0.9


def test_painting_several_is_painting_each():
    window = wall(count=3)
    shown = [Shown.of(f, s, x, 24) for f, s, x in zip(window.frames, window.geometries, window.lights, strict=True)]
    together = ShadingRelighter(size=24).painted(shown)
    for one, made in zip(shown, together, strict=True):
        assert torch.equal(ShadingRelighter(size=24).painted([one])[0], made)
