"""torch.compile takes shading in one graph, with the same values and gradients."""

from __future__ import annotations

import shutil

import pytest
import torch
from shading_cases import sky
from torch import Tensor
from torch.nn.functional import normalize

from relight.shading.bsdf import Bsdf
from relight.shading.lights import Light, Point, Rectangle, Sun
from relight.shading.shade import Estimator, MonteCarlo, SplitSum, shade
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.spherical_harmonics import SphericalHarmonics
from relight.shading.surface import Surface


def points(n: int = 50) -> list[Tensor]:
    """normal, view, base colour, roughness, metallic, and a direction to the light."""
    g = torch.Generator().manual_seed(0)
    normal, view, light = (
        normalize(torch.tensor([0.0, 0.0, 1.0]) + 0.5 * torch.randn(n, 3, generator=g), dim=-1) for _ in range(3)
    )
    color, roughness, metallic = (torch.rand(*shape, generator=g) for shape in ((n, 3), (n,), (n,)))
    return [normal, view, color, roughness, metallic, light]


def lights() -> dict[str, Light]:
    env = sky(8, dtype=torch.float32)
    # Worked out before compilation: functools.cached_property can't be compiled before Python 3.12.
    assert len(env.prefiltered) > 1 and env.irradiance(torch.eye(3)).shape == (3, 3)
    red = torch.tensor([3.0, 1.0, 0.5])
    return {
        "environment": env,
        "Gaussians": SphericalGaussians.spread(8),
        "harmonics": SphericalHarmonics.project(env),
        "sun": Sun(torch.tensor([0.0, 0.6, 0.8]), red),
        "point": Point(torch.tensor([0.0, 1.0, 2.0]), red),
        "rectangle": Rectangle(
            torch.tensor([-0.2, -0.2, 2.0]), torch.tensor([0.0, 0.4, 0.0]), torch.tensor([0.4, 0.0, 0.0]), red
        ),
    }


def check(function, *, backend: str = "aot_eager", fullgraph: bool = True) -> None:
    torch.compiler.reset()
    compiled = torch.compile(function, backend=backend, fullgraph=fullgraph)
    results = []
    for f in (function, compiled):
        leaves = [t.clone().requires_grad_() for t in points()]
        value = f(*leaves)
        gradients = torch.autograd.grad(value.square().sum(), leaves, allow_unused=True)
        results.append([value.detach(), *(g for g in gradients if g is not None)])
    assert len(results[0]) >= 6 and bool((results[0][0] > 0).any())
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def bsdf(normal, view, color, roughness, metallic, light) -> Tensor:
    return Bsdf(Surface(normal, normal, view, color, roughness, metallic)).eval(light)


def shaded(light: Light | list[Light], estimator: Estimator):
    def f(normal, view, color, roughness, metallic, _) -> Tensor:
        return shade(Surface(0.1 * normal, normal, view, color, roughness, metallic), light, estimator)

    return f


def test_split_sum_is_one_graph():
    check(shaded(lights()["environment"], SplitSum()))


@pytest.mark.slow
def test_all_kinds_of_light_are_one_graph():
    check(shaded(list(lights().values()), SplitSum()))


@pytest.mark.slow
@pytest.mark.parametrize("name", lights())
def test_split_sum_is_one_graph_under_each_light(name):
    check(shaded(lights()[name], SplitSum()))


@pytest.mark.slow
def test_bsdf_is_one_graph():
    check(bsdf)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_monte_carlo_compiles_around_its_random_numbers():
    check(shaded(lights()["rectangle"], MonteCarlo(8)), fullgraph=False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs on the CPU")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_machine_code_gives_the_same():
    check(bsdf, backend="inductor")
    check(shaded(lights()["environment"], SplitSum()), backend="inductor")
