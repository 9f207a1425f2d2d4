"""Exact derivatives of `shade` in every parameter of surfaces and lights, in float64, by central differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from shading_cases import DOUBLE, sky
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import normalize

from relight.shading.environment import Environment
from relight.shading.lights import Light, Point, Rectangle, Sun
from relight.shading.shade import Harmonics, MonteCarlo, SplitSum, shade
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.spherical_harmonics import SphericalHarmonics
from relight.shading.surface import Surface


def numbers(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=g, dtype=DOUBLE)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def points(n: int = 3) -> dict[str, Tensor]:
    """Every field of a `Surface`, at places where nothing has a kink."""
    up = tensor(0.0, 0.0, 1.0)
    return {
        "position": numbers(n, 3, seed=1, low=-0.3, high=0.3),
        "normal": normalize(up + 0.3 * numbers(n, 3, seed=2, low=-1), dim=-1),
        "view": normalize(up + 0.6 * numbers(n, 3, seed=3, low=-1), dim=-1),
        "base_color": numbers(n, 3, seed=4, low=0.1, high=0.9),
        "roughness": numbers(n, seed=5, low=0.25, high=0.6),
        "metallic": numbers(n, seed=6, low=0.2, high=0.8),
        "occlusion": numbers(n, seed=7, low=0.3, high=0.9),
        "emission": numbers(n, 3, seed=8),
        "ior": numbers(n, seed=9, low=1.3, high=1.8),
        "specular": numbers(n, seed=10, low=0.3, high=0.9),
        "specular_color": numbers(n, 3, seed=11, low=0.2, high=1.5),
    }


def of(values: dict[str, Tensor]) -> Surface:
    return Surface(**{**values, **{k: normalize(values[k], dim=-1) for k in ("normal", "view")}})  # type: ignore[arg-type]


Lamp = tuple[Callable[..., Light], tuple[Tensor, ...]]

DELTA: dict[str, Lamp] = {
    "sun": (
        lambda d, e: Sun(normalize(d, dim=0), e),
        (tensor(0.3, -0.2, 0.9), tensor(2.0, 1.0, 0.5)),
    ),
    "point": (Point, (tensor(0.5, 0.4, 1.5), tensor(3.0, 2.0, 1.0))),
    "spot": (
        # All points lie between its inner and its outer angle.
        lambda p, i, d: Point(p, i, normalize(d, dim=0), 0.05, 1.2),
        (tensor(0.5, 0.4, 1.5), tensor(3.0, 2.0, 1.0), tensor(0.1, -0.1, -1.0)),
    ),
}
EXTENDED: dict[str, Lamp] = {
    "disc": (lambda d, e: Sun(normalize(d, dim=0), e, 0.1), (tensor(0.3, -0.2, 0.9), tensor(2.0, 1.0, 0.5))),
    "rectangle": (
        Rectangle,
        (tensor(-0.4, -0.5, 1.5), tensor(0.1, 1.0, 0.2), tensor(0.9, -0.1, 0.1), tensor(3.0, 2.0, 1.0)),
    ),
}
SURROUNDING: dict[str, Lamp] = {
    "environment": (
        Environment,
        (sky(4).radiance, torch.linalg.qr(numbers(3, 3, seed=12))[0]),
    ),
    "Gaussians": (
        lambda a, s, m: SphericalGaussians(normalize(a, dim=-1), s, m),
        (numbers(2, 3, seed=13, low=-1), tensor(3.0, 20.0), numbers(2, 3, seed=14)),
    ),
    "harmonics": (
        SphericalHarmonics,
        (torch.cat([tensor(5.0, 5.0, 5.0)[None], numbers(8, 3, seed=15, low=-0.5)]),),
    ),
}


def check(lamp: Lamp, estimator, *, surface: bool = True, fast: bool = False) -> None:
    """fast: one random projection instead of the whole Jacobian."""
    make, lit = lamp
    values = points() if surface else {}
    names = list(values)

    def f(*leaves: Tensor) -> Tensor:
        given = dict(zip(names, leaves, strict=False)) if names else points()
        return shade(of(given), make(*leaves[len(names) :]), estimator)

    leaves = [t.clone().requires_grad_() for t in (*values.values(), *lit)]
    assert bool((f(*leaves) > 0).all())
    assert gradcheck(f, leaves, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=fast)


@pytest.mark.parametrize("name", [*DELTA, *EXTENDED, *SURROUNDING])
def test_split_sum_in_everything(name):
    check({**DELTA, **EXTENDED, **SURROUNDING}[name], SplitSum(), fast=name == "environment")


def test_harmonics_of_an_environment_in_everything():
    make, (radiance, rotation) = SURROUNDING["environment"]
    # Without the bright spot, so that no band makes it negative.
    check((make, (radiance.clamp_max(1.2), rotation)), Harmonics(2), fast=True)


@pytest.mark.parametrize("name", DELTA)
def test_monte_carlo_under_lights_without_extent_in_everything(name):
    check(DELTA[name], MonteCarlo(2))


def test_monte_carlo_in_the_radiance_of_lights():
    """Of lights whose samples don't depend on it: the estimate is linear in it."""
    for make, lit in EXTENDED.values():
        check((lambda e, make=make, lit=lit: make(*lit[:-1], e), lit[-1:]), MonteCarlo(8), surface=False)


def test_a_wrong_derivative_would_be_noticed():
    make, lit = DELTA["point"]

    def broken(position: Tensor, intensity: Tensor) -> Light:
        light = make(position, intensity)
        assert isinstance(light, Point)
        return replace(light, position=light.position.detach())

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check((broken, lit), SplitSum())
