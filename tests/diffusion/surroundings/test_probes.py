"""Mirror balls and exposures: pictures made by formula come back as the light they were made of."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.surroundings.framing import map_directions
from relight.diffusion.surroundings.light_edit import drawn
from relight.diffusion.surroundings.probes import exposures_of, fitted_response, from_mirror_ball, merged
from relight.diffusion.surroundings.sphere_metrics import peak
from relight.errors import RelightError, ShapeError
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment


def light(rows: int = 128) -> torch.Tensor:
    d = map_directions(rows)
    base = torch.stack([1 + 0.8 * d[..., 1], 1 + 0.8 * d[..., 2], 1 + 0.8 * d[..., 0]], -1)
    return base + drawn(torch.tensor([-0.48, 0.6, 0.64]), 200, torch.full((3,), 0.8), rows)


def ball(
    radiance: torch.Tensor, size: int, distance: float, centre: tuple[float, float], radius: float
) -> torch.Tensor:
    """Traced: a ray through each pixel of a camera on -x that looks along +x at a mirror ball."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    right, up = (x - centre[0]) / radius, (centre[1] - y) / radius
    if math.isinf(distance):
        eye = torch.stack([torch.full_like(right, -9.0), up, right], -1)
        ray = torch.tensor([1.0, 0.0, 0.0]).expand_as(eye)
    else:
        tan = 1 / math.sqrt(distance**2 - 1)
        eye = torch.tensor([-distance, 0.0, 0.0]).expand(size, size, 3)
        ray = torch.nn.functional.normalize(torch.stack([torch.ones_like(up), up * tan, right * tan], -1), dim=-1)
    b = (eye * ray).sum(-1)
    root = b * b - (eye * eye).sum(-1) + 1
    normal = eye + (-b - root.clamp_min(0).sqrt())[..., None] * ray
    mirrored = ray - 2 * (ray * normal).sum(-1, keepdim=True) * normal
    seen = Environment(radiance).eval(torch.nn.functional.normalize(mirrored, dim=-1))
    return torch.where((root > 0)[..., None], seen, 0.0)


@pytest.mark.parametrize("distance", [math.inf, 4.0])
def test_a_mirror_ball_gives_back_the_light(distance):
    truth = light()
    picture = ball(truth, 300, distance, (160.0, 140.0), 120.0)
    found = from_mirror_ball(picture, 64, (160.0, 140.0, 120.0), distance)
    wanted = light(64)
    error = ((found - wanted).abs() / wanted).amax(-1)
    hidden = 25 if math.isinf(distance) else 40
    shown = map_directions(64)[..., 0] < math.cos(math.radians(hidden))
    assert float(error[shown].mean()) < 0.02 and float(error[shown].quantile(0.98)) < 0.08
    assert float(error.max()) < 0.5
    assert float(peak(found) @ peak(wanted)) > math.cos(math.radians(1.5))


def test_balls_that_are_not_in_the_picture_are_refused():
    with pytest.raises(RelightError, match="isn't within the 40x30 picture"):
        from_mirror_ball(torch.ones(30, 40, 3), circle=(20.0, 15.0, 19.0))
    with pytest.raises(RelightError, match="distance"):
        from_mirror_ball(torch.ones(30, 40, 3), distance=1.0)
    with pytest.raises(ShapeError):
        from_mirror_ball(torch.ones(30, 40))


def scene() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.002 * 10 ** (5 * torch.rand(40, 50, 1, generator=generator)) * torch.tensor([1.0, 0.8, 0.6])


def shots(curve, times: list[float]) -> list[torch.Tensor]:
    return [(curve((scene() * t).clamp(0, 1)) * 255).round() / 255 for t in times]


@pytest.mark.parametrize("given", [True, False])
def test_exposures_make_high_dynamic_range(given):
    times = [1.0, 1 / 8, 1 / 64, 1 / 256]
    pictures = shots(linear_to_srgb, times)
    found = merged(pictures, times if given else None)
    error = (found / scene() - 1).abs()
    assert float(error[(scene() > 0.01)].quantile(0.99)) < 0.05
    assert float(found.max()) > 150
    if not given:
        assert exposures_of(pictures) == pytest.approx(times, rel=0.02)


def test_order_doesn_t_matter_and_the_first_picture_s_white_is_one():
    times = [1 / 8, 1.0, 1 / 64]
    found = merged(shots(linear_to_srgb, times), times)
    assert float((found / (scene() / 8) - 1).abs()[(scene() > 0.01) & (scene() < 50)].median()) < 0.01


def test_a_camera_s_own_curve_is_found():
    def film(x: torch.Tensor) -> torch.Tensor:
        return (x / (x + 0.25) * 1.25) ** 0.6

    times = [1.0, 1 / 4, 1 / 16, 1 / 64]
    pictures = shots(film, times)
    curve = fitted_response(pictures, times)
    level = torch.linspace(0, 1, 256)
    y = level ** (1 / 0.6)
    exposure = (0.25 * y / (1.25 - y)).clamp_min(1e-6).log()
    middle = slice(20, 236)
    difference = (curve - exposure[:, None])[middle]
    assert float((difference - difference.mean(0)).abs().max()) < 0.12
    ratio = merged(pictures, times, response="fit") / scene()
    told = (scene() > 0.02) & (scene() < 40)
    assert float((ratio[told] / ratio[told].median() - 1).abs().quantile(0.95)) < 0.12
    # What sRGB would make of it is worse.
    other = merged(pictures, times) / scene()
    assert float((other[told] / other[told].median() - 1).abs().quantile(0.95)) > 0.2


def test_mistakes_about_exposures_are_told():
    two = shots(linear_to_srgb, [1.0, 0.1])
    black_and_white = [torch.zeros(9, 9, 3), torch.ones(9, 9, 3)]
    cases: list[tuple[list[torch.Tensor], list[float] | None, str]] = [
        (two[:1], None, "two or more"),
        ([two[0], two[1][:10]], None, "of one size"),
        (two, [1.0, 1.0], "not all alike"),
        (two, [1.0, -1.0], "above 0"),
        (two, [1.0], "expected 2 times"),
        (black_and_white, None, "nothing well in common"),
    ]
    for pictures, times, message in cases:
        with pytest.raises(RelightError, match=message):
            merged(pictures, times)
    with pytest.raises(RelightError, match="three pictures"):
        merged(two, [1.0, 0.1], response="fit")
    with pytest.raises(RelightError, match="without times"):
        merged(two, response="fit")
    with pytest.raises(RelightError, match="expected srgb or fit"):
        merged(two, response="film")
