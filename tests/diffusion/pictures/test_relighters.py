"""Shapes of pictures, hints of light, and what relights."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from meshed_ball import ball_mesh, ball_splat
from torch import Generator, Tensor

from relight.diffusion.light_words import LightDescription
from relight.diffusion.own.network import Config, Network
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import MAPS
from relight.diffusion.pictures.detail import blended, colours_kept, detailed
from relight.diffusion.pictures.geometry import Geometry, from_maps, level_camera, of_splat
from relight.diffusion.pictures.outline import estimated, subject
from relight.diffusion.pictures.relighters import (
    NewLight,
    PriorRelighter,
    RelighterError,
    ShadingRelighter,
    Unchanged,
    create_relighter,
    exposure_of,
    metered,
)
from relight.errors import RelightError
from relight.fit.textures import glowing
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.render.deferred import gbuffer
from relight.render.proxy import Proxy
from relight.render.splats import create_rasterizer
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.vectors import unit

SIZE = 48


def ball(size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Viewer's normals and mask of a ball that fills most of the picture."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-line / 0.8, line / 0.8, indexing="ij")
    z = (1 - x * x - y * y).clamp_min(0).sqrt()
    return unit(torch.stack([x, y, z], -1)), z > 0


def painted(size: int = SIZE) -> Tensor:
    """(H, W, 3) albedo of fine stripes."""
    line = torch.arange(size)
    stripes = ((line[None] + line[:, None]) % 4 < 2).float()[..., None]
    return 0.3 + 0.3 * stripes * torch.tensor([1.0, 0.6, 0.3])


def lit(said: str, shape: Geometry) -> tuple[NewLight, Tensor]:
    """The light, and the ball in it, black around."""
    light = LightDescription.parse(said)
    new = NewLight(light.lights(shape.world_from_viewer, shape.middle, shape.radius), 1.0, light)
    from relight.diffusion.pictures.hints import matte

    shown = shape.spread(matte(shape.surface, new.lights)) * painted(shape.size[0])
    return new, linear_to_srgb(shown.clamp(0, 1))


@pytest.fixture(scope="module")
def shape() -> Geometry:
    normal, mask = ball()
    return from_maps(mask, normal=normal)


def degrees(a: Tensor, b: Tensor) -> Tensor:
    return torch.rad2deg((a * b).sum(-1).clamp(-1, 1).acos())


def test_an_inflated_disc_is_a_ball():
    normal, mask = ball(64)
    flat = torch.full((64, 64, 3), 0.5)
    found = estimated(flat, mask)
    off = degrees(found.normal @ found.world_from_viewer, normal)[mask]
    assert float(off.mean()) < 8
    assert float(degrees(torch.tensor([0.0, 0, 1]), normal)[mask].mean()) > 35  # a flat guess


def test_depth_and_normals_are_worked_out_of_each_other():
    normal, mask = ball(64)
    shape = from_maps(mask, normal=normal, camera=level_camera(64, 64, 5.0))
    again = from_maps(mask, depth=shape.depth, camera=shape.camera)
    inner = normal[..., 2] > 0.6
    assert float(degrees(again.normal, shape.normal)[inner].mean()) < 6
    with pytest.raises(RelightError, match="found neither"):
        from_maps(mask)


def test_what_stands_out_of_a_plain_background():
    _, mask = ball()
    picture = torch.where(mask[..., None], painted(), torch.ones(3))
    assert float((subject(picture) == mask).float().mean()) > 0.97
    noise = torch.rand(SIZE, SIZE, 3, generator=Generator().manual_seed(0))
    assert bool(subject(noise).all())


def test_shadows_along_a_depth_map():
    depth = torch.full((64, 64), 3.0)
    depth[:, 30:38] = 2.6  # a wall towards the viewer
    shape = from_maps(
        torch.ones(64, 64, dtype=torch.bool), normal=torch.tensor([0.0, 0, 1]).expand(64, 64, 3), depth=depth
    )
    right = shape.world_from_viewer @ unit(torch.tensor([1.0, 0, 0.7]))
    far = torch.tensor([math.inf])

    def hidden(column: int, way: Tensor) -> bool:
        return bool(shape.rays.occluded(shape.position[32, column][None], way[None], far))

    assert hidden(27, right) and not hidden(44, right) and not hidden(4, right)
    away = shape.world_from_viewer @ torch.tensor([0.0, 0, 1.0])
    assert not any(hidden(column, away) for column in (5, 27, 34, 44, 60))


def test_resizing_keeps_the_subject_apart(shape):
    small = shape.resized(12, 12)
    normal, _ = ball(12)
    assert float(degrees(small.normal @ small.world_from_viewer, normal)[small.mask].mean()) < 8
    part = shape.cropped(10, 6, 20, 30)
    assert torch.allclose(part.position, shape.position[10:30, 6:36], atol=1e-6)


def test_detail_is_that_of_the_photograph(shape):
    _, source = lit("left soft", shape)
    _, truth = lit("right soft", shape)
    before, after = srgb_to_linear(source), srgb_to_linear(truth)
    blurred = torch.nn.functional.avg_pool2d(after.permute(2, 0, 1)[None], 9, 1, 4)[0].permute(1, 2, 0)
    mask = shape.mask

    def error(picture: Tensor) -> float:
        return float((picture - after)[mask].square().mean())

    full = detailed(before, after, shape, 24)
    assert error(full) < 0.25 * error(blurred)
    assert torch.equal(detailed(before, blurred, shape, 24, 0.0), blurred.clamp_min(0))
    twice = detailed(before, 2 * before, shape, 24)
    assert float((twice - 2 * before)[mask].abs().max()) < 0.03


def test_light_does_not_run_over_edges():
    mask = torch.ones(40, 40, dtype=torch.bool)
    depth = torch.full((40, 40), 3.0)
    depth[:, 20:] = 1.5
    shape = from_maps(mask, normal=torch.tensor([0.0, 0, 1]).expand(40, 40, 3), depth=depth)
    source = torch.full((40, 40, 3), 0.2)
    relit = source.clone()
    relit[:, 20:] = 0.8
    full = detailed(source, relit, shape, 10)
    assert float((full - relit).abs().max()) < 0.02


def test_colours_are_kept_and_tints_stay():
    source = painted() * 0.8
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    tint = torch.tensor([1.2, 1.0, 0.6])
    relit = source * tint
    wrong = relit.clone()
    wrong[:10, :10] = wrong[:10, :10] * torch.tensor([0.3, 1.0, 2.0])  # a hue that a model made up
    kept = colours_kept(source, wrong, mask)

    def hue(x: Tensor) -> Tensor:
        return x / x.sum(-1, keepdim=True)

    assert float((hue(kept) - hue(relit)).abs().max()) < 0.02
    assert torch.equal(colours_kept(source, wrong, mask, 0.0), wrong)


def test_composites_fill_the_frame():
    _, mask = ball()
    background = torch.zeros(20, 90, 3)
    background[:, 45:] = 1
    out = blended(torch.full((SIZE, SIZE, 3), 0.5), background, mask)
    assert torch.equal(out[SIZE // 2, SIZE // 2], torch.full((3,), 0.5))
    assert float(out[0, 0].max()) < 0.01 and float(out[0, -1].min()) > 0.99


def test_shading_beats_the_picture_unchanged(shape):
    _, source = lit("left soft", shape)
    light, truth = lit("right warm soft", shape)
    made = ShadingRelighter(size=SIZE).relit(source, shape, light)
    before, after = ((p - truth)[shape.mask].square().mean().log10() * -10 for p in (source, made))
    assert float(after) > float(before) + 4
    assert torch.equal(made[~shape.mask], source[~shape.mask])


def test_metering_keeps_the_brightness(shape):
    light, source = lit("front soft", shape)
    exposure = metered(source, shape, light.lights)
    made = ShadingRelighter(size=SIZE).relit(source, shape, NewLight(light.lights, exposure))
    one, two = (srgb_to_linear(p[shape.mask]).mean() for p in (source, made))
    assert float(two / one) == pytest.approx(1, abs=0.15)
    assert exposure_of(source, shape) == pytest.approx(exposure_of(source, shape))


@pytest.fixture(scope="module")
def tiny() -> Prior:
    torch.manual_seed(0)
    return Prior(Network(Config("relight", 3, MAPS, widths=(16, 16), detail=4, token=16, patch=4)))


def test_a_prior_paints_the_subject_alone(tiny, shape):
    light, source = lit("left", shape)
    relighter = PriorRelighter(tiny, size=32, steps=2)
    made = relighter.relit(source, shape, light, seed=1)
    assert made.shape == source.shape and bool(((made >= 0) & (made <= 1)).all())
    assert torch.equal(made[~shape.mask], source[~shape.mask])
    assert torch.equal(made, relighter.relit(source, shape, light, seed=1))
    assert not torch.equal(made, relighter.relit(source, shape, light, seed=2))
    guided = PriorRelighter(tiny, size=32, steps=2, scale=2.0, ensemble=2)
    assert not torch.equal(made, guided.relit(source, shape, light, seed=1))


def test_a_prior_is_told_the_new_light_in_hints(tiny, shape, monkeypatch):
    told = []
    sample = tiny.sample
    monkeypatch.setattr(
        tiny, "sample", lambda condition, *a, **k: told.append(condition.maps) or sample(condition, *a, **k)
    )
    _, source = lit("front", shape)
    for side in ("left", "right"):
        light, _ = lit(f"{side} soft", shape)
        PriorRelighter(tiny, size=32, steps=1).relit(source, shape, light)
    first = told[0][0, 8:11].mean(0)
    left, right = first[:, : first.shape[1] // 2].mean(), first[:, first.shape[1] // 2 :].mean()
    mirrored = told[1][0, 8:11].mean(0).flip(1)
    assert float(left) > float(right) + 0.2
    assert float((first - mirrored).abs().mean()) < 0.1
    assert torch.equal(told[0][0, -3:].mean((1, 2)), torch.ones(3))


def test_mistakes(tiny, shape):
    light, source = lit("left", shape)
    with pytest.raises(RelighterError, match="mask is empty"):
        Unchanged().relit(source, Geometry(shape.normal, shape.depth, shape.mask & False, shape.camera), light)
    with pytest.raises(RelighterError, match="expected a picture"):
        ShadingRelighter().relit(source[:10], shape, light)
    with pytest.raises(RelighterError, match="trained for 'material'"):
        PriorRelighter(Prior(Network(Config("material", 5, MAPS, widths=(16, 16), detail=4, token=16))))
    with pytest.raises(RelighterError, match="did you mean 'shading'"):
        create_relighter("shadin")
    with pytest.raises(RelighterError, match="takes no weights"):
        create_relighter("shading", "x.safetensors")
    with pytest.raises(RelightError, match="ic-light-fc"):
        create_relighter("ic-light-fc", "/nowhere")


def test_the_shape_of_a_splat():
    camera = Camera.from_fov(look_at(torch.tensor([0.0, 0, 4]), torch.zeros(3), torch.tensor([0.0, 1, 0])), 0.7, 32, 32)
    buffer = gbuffer(create_rasterizer(), ball_splat(), camera)
    mesh = ball_mesh()
    shape = of_splat(buffer, camera, Proxy(glowing(mesh, torch.full_like(mesh.vertices, 0.2))))
    assert float(degrees(shape.normal, unit(shape.position))[shape.mask].median()) < 8
    # Nothing stands in a ball's way above its own horizon, and half of the sky is below.
    assert float(shape.open.mean()) == pytest.approx(0.5, abs=0.1)


def test_a_geometry_is_gone_when_nobody_holds_it():
    """Without the collector, which doesn't see how large the maps of films' frames are."""
    gc.disable()
    try:
        geometry = estimated(torch.rand(24, 24, 3), torch.ones(24, 24, dtype=torch.bool))
        assert geometry.rays is geometry.rays  # kept
        assert geometry.open.shape[0] == int(geometry.mask.sum())
        gone = weakref.ref(geometry)
        del geometry
        assert gone() is None
    finally:
        gc.enable()
