"""The laws of shading as functions, for our own lights and reflection models and for those of other packages.

    from relight.testing import laws
    laws.check_light(MyLight(...), position)
    errors = laws.furnace_error(0.5, metallic=1.0)

`check_` functions raise AssertionError saying what is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relight.shading.bsdf import Bsdf
from relight.shading.lights import Light
from relight.shading.surface import Surface
from relight.testing.statistics import sphere_chi_square
from relight.vectors import unit

SIGNIFICANCE = 1e-4
COSINES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)


def white_surface(cosines: Sequence[float], roughness: float, metallic: float) -> Surface:
    """White points facing +z, each seen under one of the cosines.  float64."""
    c = torch.tensor(cosines, dtype=torch.float64)
    one = torch.ones_like(c)
    normal = torch.stack([0 * c, 0 * c, one], -1)
    view = torch.stack([(1 - c * c).sqrt(), 0 * c, c], -1)
    return Surface(0 * normal, normal, view, torch.ones_like(normal), roughness * one, metallic * one)


def furnace_error(
    roughness: float,
    metallic: float,
    *,
    cosines: Sequence[float] = COSINES,
    samples: int = 1 << 15,
    bsdf: Callable[[Surface], Bsdf] = Bsdf,
) -> Tensor:
    """What a white surface reflects under uniform light, minus 1, for each cosine of the eye.  (len(cosines),) float64.

    The integral uses the model's own sampler, on Sobol points: it follows peaks of any width, and a density that is
    wrong shows as lost or gained energy.
    """
    model = bsdf(white_surface(cosines, roughness, metallic))
    u = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(samples, dtype=torch.float64)
    # Points on the edge of the unit cube are no sample of anything.
    light = model.sample(u.clamp(1e-9, 1 - 1e-9).expand(len(cosines), -1, -1))
    pdf = model.pdf(light)
    weight = torch.where((pdf > 0)[..., None], model.eval(light) / pdf.clamp_min(1e-300)[..., None], 0.0)
    return weight.mean((1, 2)) - 1


def check_light(light: Light, position: Tensor, *, samples: int = 60_000, seed: int = 0) -> None:
    """A light with extent, as seen from a position (3,): directions follow the density, and `hit` agrees with
    `sample_light` about radiance, distance and density.
    """
    if light.delta:
        raise ValueError("check_light: a light without extent has no density to check")
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(samples, 2, generator=generator, dtype=position.dtype)
    here = position.expand(samples, 3)
    drawn = light.sample_light(here, u)
    _require(bool((drawn.pdf >= 0).all()), "a density is negative")
    _require(bool((drawn.direction.norm(dim=-1) - 1).abs().max() < 1e-4), "a direction is not of unit length")
    # A place whose back faces the point sends nothing there; its direction belongs to no density.
    shining = drawn.pdf > 0
    again = light.hit(here, drawn.direction)
    for name in ("radiance", "pdf", "distance"):
        a, b = getattr(drawn, name)[shining], getattr(again, name)[shining]
        same = torch.isclose(a, b, rtol=1e-3, atol=1e-6).double().mean()
        # Rounding may move a sample on an edge to the other side of it.
        _require(float(same) > 0.998, f"sample_light and hit disagree on {name} for {1 - float(same):.1%} of samples")

    def density(directions: Tensor) -> Tensor:
        return light.hit(position.expand(len(directions), 3), directions).pdf

    # Densities may have edges, on which few points a cell are not enough.
    p = sphere_chi_square(drawn.direction[shining], density, total=samples, inside=40)
    _require(p > SIGNIFICANCE, f"directions do not follow their density (p = {p:.1e})")


def check_reciprocity(
    evaluate: Callable[[Tensor, Tensor], Tensor], *, count: int = 500, seed: int = 0, tolerance: float = 1e-9
) -> None:
    """f(v, l) = f(l, v).  evaluate: (N, 3) views and (N, 3) lights, unit, +z the normal, to (N, C) f without cosine."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(2, count, 3, generator=generator, dtype=torch.float64)
    d[..., 2] = d[..., 2].abs() + 0.05
    v, light = unit(d)
    there, back = evaluate(v, light), evaluate(light, v)
    worst = float(((there - back).abs() / there.abs().clamp_min(1e-12)).max())
    _require(worst < tolerance, f"exchanging eye and light changes reflection by up to {worst:.2%}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
