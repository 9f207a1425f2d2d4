"""What light a picture shows, where shape and materials are known: one lobe of any width, and light from all around."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.diffusion.light_words import WIDEST, LightDescription, lobe
from relight.diffusion.pictures.hints import SHARPEST, sky
from relight.diffusion.pictures.lumos.shots import Shot
from relight.shading.color import blackbody, luminance, srgb_to_linear
from relight.shading.lights import Light, Point
from relight.shading.shade import SplitSum, shade
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.surface import frame
from relight.shading.tracing import Tracer
from relight.vectors import unit

POINTS = 500
"""That are looked at, of a picture."""
AXES = 400
"""Directions that are tried first: about 10 degrees apart."""
RADII = (0.8, 3.0, 9.0, 20.0, 40.0)
"""Degrees, likewise."""
RAYS = 5
"""Within lobes of fewer than BITS degrees, which look for what is in their way."""
BITS = 12.0
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
        geometry, values = shot.geometry, picture[shot.geometry.mask]
        told = (shot.telling & (values.amax(-1) < CLIPPED)).nonzero()[:, 0]
        if len(told) < 50:  # all white: what is clipped tells at least where light falls
            told = shot.telling.nonzero()[:, 0]
        told = told[:: max(1, len(told) // POINTS)]
        self.geometry, self.surface = geometry, shot.surface[told]
        self.open = geometry.open[told]
        self.value = srgb_to_linear(values[told]) / exposure
        bright = luminance(self.value)
        self.weight = 1 / (bright + 0.1 * bright.mean()).clamp_min(1e-4)
        directions = sky()
        cosine = (self.surface.normal @ directions.mT).clamp_min(0)
        even = SphericalGaussians(torch.tensor([[0.0, 1, 0]]), torch.tensor([0.01]), torch.ones(1, 3))
        level = even.irradiance(torch.tensor([0.0, 1, 0]))
        seen = (cosine * self.open).sum(1) / cosine.sum(1).clamp_min(1e-6)
        self.around = self._shaded(replace(even, amplitude=even.amplitude / level)) * seen[:, None]
        # What lies below the horizon is dark by its cosine, not hidden.
        self.blocked = ((self.surface.side @ directions.mT) > 0) & (self.open < 0.5)

    def best(self) -> FoundLight:
        """Matte surfaces first, from everywhere; then as they are, near the best."""
        axes = sky(AXES)
        errors = torch.stack([self._errors(self._matte(axes, radius))[0] for radius in RADII])
        k, i = divmod(int(errors.argmin()), AXES)
        axis, radius = axes[i], RADII[k]
        for spread, options in ((8.0, RADII), (4.0, (0.6, 1.0, 1.7)), (1.5, (0.8, 1.0, 1.25))):
            radii = options if options is RADII else [min(WIDEST, max(0.3, radius * f)) for f in options]
            axis, radius = self._refined(axis, spread, radii)
        error, shown, around = self._one(self._lobe(axis, radius))
        source, near = "far", self._near(axis)
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

    def _refined(self, axis: Tensor, spread: float, radii: Sequence[float]) -> tuple[Tensor, float]:
        axes = unit(torch.cat([axis[None], axis + sky(8) * math.tan(math.radians(spread))]))
        tried = [(one, radius) for radius in radii for one in axes]
        errors = self._errors(torch.stack([self._lobe(*pair) for pair in tried]))[0]
        return tried[int(errors.argmin())]

    def _matte(self, axes: Tensor, radius: float) -> Tensor:
        """(K, P, 3) what the points show if they are matte, in lobes about (K, 3) axes that show 1 where faced."""
        cosines = torch.linspace(-1, 1, 512)
        probe = torch.stack([(1 - cosines**2).clamp_min(0).sqrt(), torch.zeros(512), cosines], 1)
        table = lobe(torch.tensor([0.0, 0, 1]), math.radians(radius), torch.ones(3)).irradiance(probe)[:, 0]
        at = ((axes @ self.surface.normal.mT) + 1).mul(255.5).clamp(0, 511)
        low = at.floor().long().clamp_max(510)
        received = torch.lerp(table[low], table[low + 1], at - low) * self._soft(axes, radius)
        return received[..., None] * self.surface.base_color

    def _lobe(self, axis: Tensor, radius: float) -> Tensor:
        """(P, 3) what the points show, of their own materials, in one lobe."""
        free = self._free(axis, radius) if radius < BITS else self._soft(axis[None], radius)[0]
        return self._shaded(lobe(axis, math.radians(radius), torch.ones(3))) * free[:, None]

    def _shaded(self, light: Light, tracer: Tracer | None = None) -> Tensor:
        return shade(self.surface, light, SplitSum(), tracer=tracer)

    def _soft(self, axes: Tensor, radius: float) -> Tensor:
        """(K, P) share of lobes that isn't hidden, by the sky's bits."""
        sharpness = min(2 / (1 - math.cos(math.radians(radius))), SHARPEST)
        weight = torch.exp(sharpness * (axes @ sky().mT - 1))
        return 1 - (weight / weight.sum(1, keepdim=True)) @ self.blocked.float().mT

    def _free(self, axis: Tensor, radius: float) -> Tensor:
        """(P,) share of `RAYS` within a narrow lobe that leave."""
        across, along = frame(axis)
        count = 1 if radius < 1 else RAYS
        out = torch.zeros(self.surface.shape)
        for i in range(count):
            r, phi = math.sqrt((i + 0.5) / count) * math.tan(math.radians(radius)), i * 2.399963
            way = unit(axis + r * (math.cos(phi) * across + math.sin(phi) * along)).expand_as(self.surface.normal)
            above = (way * self.surface.side).sum(1) > 0
            far = torch.full((int(above.sum()),), math.inf)
            out[above] += (~self.geometry.rays.occluded(self.surface.position[above], way[above], far)).float()
        # Below the horizon the cosine has made it dark.
        return out / count

    def _near(self, axis: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        """Error, direction, shown and around of the best light close by."""
        middle, radius = self.geometry.middle, self.geometry.radius
        found = (math.inf, axis, torch.zeros(3), torch.zeros(3))
        for spread in (20.0, 7.0):
            axes = unit(torch.cat([found[1][None], found[1] + sky(8) * math.tan(math.radians(spread))]))
            for away in DISTANCES:
                distance = away * radius
                for one in axes:
                    lamp = Point(middle + distance * one, torch.full((3,), math.pi * distance * distance))
                    error, shown, around = self._one(self._shaded(lamp, self.geometry.rays))
                    if error < found[0]:
                        found = (error, one, shown, around)
        return found

    def _one(self, received: Tensor) -> tuple[float, Tensor, Tensor]:
        error, shown, around = self._errors(received[None])
        return float(error[0]), shown[0], around[0]

    def _errors(self, received: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(K,) weighted squared errors, (K, 3) and (K, 3) of lobes and surroundings, at least 0, of (K, P, 3)."""
        w = self.weight[:, None]
        f, g, y = received, self.around, self.value
        ff, fg, fy = (f * f * w).sum(1), (f * (w * g)).sum(1), (f * (w * y)).sum(1)
        gg, gy, yy = (w * g * g).sum(0), (w * g * y).sum(0), (w * y * y).sum(0)
        determinant = (ff * gg - fg * fg).clamp_min(1e-12)
        a, b = (fy * gg - fg * gy) / determinant, (ff * gy - fg * fy) / determinant
        # At least 0: of two unknowns, one that would be below is 0, and the other is what it is alone.
        a_alone, b_alone = (fy / ff.clamp_min(1e-12)).clamp_min(0), (gy / gg.clamp_min(1e-12)).clamp_min(0)
        lone_b = a < 0
        a = torch.where(b < 0, a_alone, a).where(~lone_b, 0.0)
        b = torch.where(lone_b, b_alone.expand_as(b), b.clamp_min(0))
        error = yy - 2 * a * fy - 2 * b * gy + a * a * ff + 2 * a * b * fg + b * b * gg
        return error.sum(1).clamp_min(0), a, b
