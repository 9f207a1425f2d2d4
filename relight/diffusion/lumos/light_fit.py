"""What light a picture shows, where shape and materials are known: one lobe of any width, and light from all around."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.hints import SHARPEST, sky
from relight.diffusion.light_words import WIDEST, LightDescription
from relight.diffusion.lumos.shots import Shot
from relight.diffusion.procedural.draw import blackbody, luminance
from relight.shading.color import srgb_to_linear
from relight.shading.spherical_gaussians import SphericalGaussians

POINTS = 1500
"""That are looked at, of a picture."""
AXES = 400
"""Directions that are tried first: about 10 degrees apart."""
RADII = (0.8, 3.0, 9.0, 20.0, 40.0)
"""Degrees, likewise."""
DISTANCES = (1.6, 2.5, 4.0)
"""Subject radii, of lights close by."""
NEARER = 0.8
"""Share of the error of the best far light that a near one has to get below."""
AMBIENT = 0.35
"""Share of the whole light below which a lobe is no direction."""
CLIPPED = 0.985
"""sRGB value from which a pixel doesn't tell how bright it is."""


@dataclass(frozen=True)
class FoundLight:
    """direction: (3,) unit, a viewer's axes.  radius: degrees.  shown, around: (3,) that matte white shows which faces
    the lobe, and by the light from all around.  source: "far", "near" or "sky".  error: of the fit, relative.
    """

    direction: tuple[float, float, float]
    radius: float
    shown: Tensor
    around: Tensor
    source: str
    error: float

    @property
    def intensity(self) -> float:
        """What matte white shows at most."""
        return float(luminance(self._color))

    @property
    def _color(self) -> Tensor:
        return self.around if self.source == "sky" else self.shown

    @property
    def hardness(self) -> float:
        """As of `LightDescription`."""
        return min(1.0, max(0.0, math.log(max(self.radius, 1e-3) / WIDEST) / math.log(0.01)))

    @property
    def temperature(self) -> float:
        """Kelvin, of the black body of the nearest ratios of colours; 6500 is white."""
        found = (self._color.clamp_min(1e-4) / self._color[1].clamp_min(1e-4)).log()
        kelvins = 1 / torch.linspace(1 / 20000, 1 / 1500, 200)
        table = torch.stack([blackbody(float(k)) for k in kelvins]).clamp_min(1e-3) / blackbody(6500.0)
        off = ((table / table[:, 1:2]).log() - found).square()
        # Blue nearly vanishes in candle light.
        return float(kelvins[(off * off.new_tensor([1.0, 0.0, 0.3])).sum(1).argmin()])

    def classes(self, bright: float) -> dict[str, str]:
        """As of `LightDescription.classes`, without time; bright: what intensity 1 shows."""
        low, high = 0.011, 99.0
        said = LightDescription(
            None if self.source == "sky" else self.direction,
            min(max(self.intensity / max(bright, 1e-6), low), high),
            self.hardness,
            self.temperature,
            source={"near": "lamp", "sky": "sky"}.get(self.source, "softbox"),
        )
        return {name: word for name, word in said.classes().items() if name != "variation"}


def light_of(picture: Tensor, shot: Shot, exposure: float = 1.0) -> FoundLight:
    """The light that a (H, W, 3) sRGB picture of the shot shows best, by least squares over directions, widths and
    distances.  exposure: the picture's linear values over radiance.
    """
    return _Fit(picture, shot, exposure).best()


class _Fit:
    """The points that are looked at, and how well lights explain them."""

    def __init__(self, picture: Tensor, shot: Shot, exposure: float):
        geometry, surface = shot.geometry, shot.surface
        values = picture[geometry.mask]
        told = (shot.telling & (values.amax(-1) < CLIPPED)).nonzero()[:, 0]
        if len(told) < 50:  # all white: what is clipped tells at least where light falls
            told = shot.telling.nonzero()[:, 0]
        told = told[:: max(1, len(told) // POINTS)]
        self.geometry, self.count = geometry, len(told)
        self.normal, self.position = surface.normal[told], surface.position[told]
        self.side = surface.side[told]
        self.open = geometry.open[told]
        self.paint = surface.base_color[told]
        self.value = srgb_to_linear(values[told]) / exposure
        self.weight = 1 / (luminance(self.value) + 0.1 * luminance(self.value).mean()).clamp_min(1e-4)
        directions = sky()
        cosine = (self.normal @ directions.mT).clamp_min(0)
        self.around = (cosine * self.open).sum(1) / cosine.sum(1).clamp_min(1e-6)
        # What lies below the horizon is dark by its cosine, not hidden.
        self.blocked = ((self.side @ directions.mT) > 0) & (self.open < 0.5)

    def best(self) -> FoundLight:
        axes = sky(AXES)
        tried = [(radius, self._lobes(axes, radius)) for radius in RADII]
        errors = torch.stack([self._errors(received)[0] for _, received in tried])
        k, i = divmod(int(errors.argmin()), AXES)
        axis, radius = axes[i], RADII[k]
        for spread, factor in ((9.0, 1.8), (4.0, 1.4), (1.5, 1.2)):
            axis, radius = self._refined(axis, radius, spread, factor)
        error, shown, around = self._one(self._lobe(axis, radius))
        source = "far"
        near = self._near(axis)
        if near[0] < NEARER * error:
            source, (error, axis, shown, around) = "near", near
        share = float(luminance(shown)) / max(float(luminance(shown) + luminance(around)), 1e-9)
        if share < AMBIENT:
            source = "sky"
        viewer = axis @ self.geometry.world_from_viewer
        total = float((self.value.square() * self.weight[:, None]).sum())
        return FoundLight(
            (float(viewer[0]), float(viewer[1]), float(viewer[2])), radius, shown, around, source,
            math.sqrt(error / max(total, 1e-12)),
        )  # fmt: skip

    def _refined(self, axis: Tensor, radius: float, spread: float, factor: float) -> tuple[Tensor, float]:
        ring = sky(24) * math.tan(math.radians(spread))
        axes = torch.nn.functional.normalize(torch.cat([axis[None], axis + ring, axis + ring / 2]), dim=1)
        options = [min(WIDEST, radius * f) for f in (1 / factor, 1.0, factor)]
        received = torch.cat([self._lobes(axes, r, rays=True) for r in options])
        k, i = divmod(int(self._errors(received)[0].argmin()), len(axes))
        return axes[i], options[k]

    def _lobe(self, axis: Tensor, radius: float) -> Tensor:
        return self._lobes(axis[None], radius, rays=True)[0]

    def _lobes(self, axes: Tensor, radius: float, rays: bool = False) -> Tensor:
        """(K, P) what matte white shows in a lobe about each of (K, 3) axes that shows 1 where it is faced."""
        sharpness = 2 / (1 - math.cos(math.radians(radius)))
        cosines = torch.linspace(-1, 1, 512)
        probe = torch.stack([(1 - cosines**2).clamp_min(0).sqrt(), torch.zeros(512), cosines], 1)
        one = SphericalGaussians(torch.tensor([[0.0, 0, 1]]), torch.tensor([sharpness]), torch.ones(1, 3))
        table = one.irradiance(probe)[:, 0]
        at = (((axes @ self.normal.mT) + 1) * 255.5).clamp(0, 511)
        low = at.floor().long().clamp_max(510)
        received = torch.lerp(table[low], table[low + 1], at - low) / table[-1]
        if rays and radius < 5:
            return received * self._free(axes)
        lobe = torch.exp(min(sharpness, SHARPEST) * (axes @ sky().mT - 1))
        return received * (1 - (lobe / lobe.sum(1, keepdim=True)) @ self.blocked.float().mT)

    def _free(self, axes: Tensor) -> Tensor:
        """(K, P) whether rays along the axes leave."""
        above = (axes @ self.side.mT) > 0
        k, p = above.nonzero().unbind(1)
        out = above.float()
        far = torch.full((len(k),), math.inf)
        out[k, p] = (~self.geometry.rays.occluded(self.position[p], axes[k], far)).float()
        return out

    def _near(self, axis: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        """Error, direction, shown and around of the best light close by."""
        geometry = self.geometry
        found = (math.inf, axis, torch.zeros(3), torch.zeros(3))
        for spread in (25.0, 8.0):
            ring = sky(20) * math.tan(math.radians(spread))
            axes = torch.nn.functional.normalize(torch.cat([found[1][None], found[1] + ring]), dim=1)
            for away in DISTANCES:
                distance = away * geometry.radius
                for one in axes:
                    offset = geometry.middle + distance * one - self.position
                    length = offset.norm(dim=1)
                    towards = offset / length[:, None]
                    received = (towards * self.normal).sum(1).clamp_min(0) * (distance / length) ** 2
                    free = (towards * self.side).sum(1) > 0
                    hidden = geometry.rays.occluded(self.position, towards, length)
                    error, shown, around = self._one(received * (free & ~hidden))
                    if error < found[0]:
                        found = (error, one, shown, around)
        return found

    def _one(self, received: Tensor) -> tuple[float, Tensor, Tensor]:
        error, shown, around = self._errors(received[None])
        return float(error[0]), shown[0], around[0]

    def _errors(self, received: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(K,) weighted squared errors, (K, 3) and (K, 3) of lobes and surroundings, at least 0, of (K, P)."""
        w = self.weight
        error = received.new_zeros(len(received))
        lobes, arounds = [], []
        for c in range(3):
            f = received * self.paint[:, c]
            g = self.around * self.paint[:, c]
            y = self.value[:, c]
            ff, fg, fy = (f * f) @ w, f @ (w * g), f @ (w * y)
            gg, gy, yy = (w * g * g).sum(), (w * g * y).sum(), (w * y * y).sum()
            det = (ff * gg - fg * fg).clamp_min(1e-12)
            a, b = (fy * gg - fg * gy) / det, (ff * gy - fg * fy) / det
            # At least 0: of two unknowns, the one that would be below is 0.
            a_alone, b_alone = (fy / ff.clamp_min(1e-12)).clamp_min(0), (gy / gg.clamp_min(1e-12)).clamp_min(0)
            b = torch.where(a < 0, b_alone, b)
            a = torch.where(b < 0, a_alone, a.clamp_min(0))
            b = b.clamp_min(0)
            error = error + yy - 2 * a * fy - 2 * b * gy + a * a * ff + 2 * a * b * fg + b * b * gg
            lobes.append(a)
            arounds.append(b)
        return error.clamp_min(0), torch.stack(lobes, 1), torch.stack(arounds, 1)
