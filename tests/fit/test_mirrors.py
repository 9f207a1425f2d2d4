"""Light of metals, in closed form, and whether a fit begins with it."""

from __future__ import annotations

import pytest
import torch
from lit_ball import photographs, places_of_ball, sky
from meshed_ball import ball_splat

from relight.fit.begin import Beginning, Prior, begin
from relight.fit.lighting import FittedLighting
from relight.fit.mirrors import Mixture
from relight.render.transfer import cell_directions
from relight.shading.environment import Environment
from relight.views import Views


def begun(views: Views) -> tuple[Beginning, Environment]:
    light = FittedLighting(views, None, size=16, brightness=1.0, device=torch.device("cpu"))
    splat = ball_splat()
    look = splat.channels["base_color"] * sky().irradiance(splat.means)
    found = begin(places_of_ball(), views, light, look, Prior(0.1, 0.6))
    main = light.found().main
    assert main is not None
    return found, main


def irradiance_error(found: Environment) -> float:
    """Relative, after the factor for each channel that photographs can't tell."""
    normals = cell_directions(torch.eye(3))
    true, ours = sky().irradiance(normals), found.irradiance(normals)
    scale = (true * ours).sum(0) / (ours * ours).sum(0)
    return float((ours * scale - true).abs().sum() / true.sum())


def test_metal_explains_a_metal_ball_and_finds_its_light(tmp_path):
    views = photographs(tmp_path, torch.ones(1200), torch.full((1200,), 0.4), 24)
    mixture, ones = Mixture.of(places_of_ball(), views), torch.ones(1200)
    metal, paint = (mixture.explained(m * ones, 0.4 * ones) for m in (1.0, 0.0))
    assert metal.left < 0.6 * paint.left
    assert irradiance_error(Environment(metal.radiance)) < 0.15
    truth = ball_splat().channels["base_color"]
    scale = (metal.base_color * truth).sum(0) / metal.base_color.square().sum(0)
    assert (metal.base_color * scale - truth).abs().mean() < 0.1


@pytest.mark.parametrize(("metallic", "roughness"), [(1.0, 0.4), (0.0, 0.6)])
@pytest.mark.slow
def test_a_fit_begins_with_the_light_that_explains_more(tmp_path, metallic, roughness):
    views = photographs(tmp_path, torch.full((1200,), metallic), torch.full((1200,), roughness), 24)
    found, light = begun(views)
    mean = float((found.shares @ found.metallic).mean())
    assert mean > 0.7 if metallic else mean < 0.1
    assert irradiance_error(light) < 0.2


def test_cells_are_where_their_radiance_is_looked_up():
    grid = torch.arange(512.0).view(16, 32, 1).expand(-1, -1, 3)
    seen = Environment(grid).eval(cell_directions(torch.eye(3)))
    assert torch.allclose(seen, grid.flatten(0, 1), atol=1e-2)
