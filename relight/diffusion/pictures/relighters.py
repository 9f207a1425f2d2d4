"""From a photograph, its shape and a light to the photograph under that light: what every such model is to the rest,
our own prior, and shading by hand, which it has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from relight.diffusion.light_words import LightDescription
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.pictures.detail import detailed
from relight.diffusion.pictures.geometry import Geometry, resized_inside
from relight.diffusion.pictures.hints import matte, radiance_hints
from relight.diffusion.pictures.hints import shown as as_hint
from relight.diffusion.protocol import Condition
from relight.errors import RelightError
from relight.plugins import did_you_mean
from relight.resize import within
from relight.shading.color import linear_to_srgb, luminance, srgb_to_linear
from relight.shading.lights import Light, Surroundings
from relight.shading.spherical_harmonics import basis
from relight.shading.tracing import Tracer

ALBEDO = 0.4
"""Mean of what is photographed: neither its light nor its paint is known alone."""
MARGIN = 0.08
"""Of the picture that is shown to the prior, beside the subject's box."""


class RelighterError(RelightError):
    """A picture or light that a relighter can't take, or a relighter that isn't there."""


@dataclass(frozen=True)
class NewLight:
    """lights: in the geometry's world.  exposure: from their radiance to the picture's linear values, where 1 is white;
    see `metered`.  description, background: for models that are told in words, or by (H, W, 3) sRGB of what is behind.
    """

    lights: tuple[Light, ...]
    exposure: float = 1.0
    description: LightDescription | None = None
    background: Tensor | None = None


@dataclass(frozen=True)
class Shown:
    """What is painted at a low resolution.  picture: (h, w, 3) linear, without what is beside the subject.  geometry:
    of (h, w).  light: the new one."""

    picture: Tensor
    geometry: Geometry
    light: NewLight

    @staticmethod
    def of(picture: Tensor, geometry: Geometry, light: NewLight, size: int) -> Shown:
        """Of a (H, W, 3) sRGB picture.  size: pixels of the longer side, at most."""
        return Shown(*shrunk(picture, geometry, size), light)


@runtime_checkable
class ImageRelighter(Protocol):
    """One model."""

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """(H, W, 3) sRGB-encoded, 0 to 1, of (H, W, 3) sRGB-encoded, under the light; the same outside the geometry's
        mask.  The same seed gives the same picture.  Raises RelighterError.
        """
        ...


@runtime_checkable
class Painter(Protocol):
    """An `ImageRelighter` whose result is a change of light at a low resolution, of several pictures at once: what
    films are relit by.  size: pixels of the longer side that it paints.  change: those at which its change of light is
    taken over.  detail: see `detail.detailed`.  network: whose self-attention may be shared among pictures; None if it
    has none.
    """

    @property
    def size(self) -> int: ...
    @property
    def change(self) -> int: ...
    @property
    def detail(self) -> float: ...
    @property
    def network(self) -> torch.nn.Module | None: ...

    def painted(
        self,
        shown: Sequence[Shown],
        *,
        seeds: Sequence[int] = (0,),
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """(F, h, w, 3) linear, of pictures of one size.

        seeds: of each picture's noise, or one for all.  between: (step of sampling from 0, (F, h, w, 3) linear that it
        aims at) to what to aim at instead; not called by what doesn't sample.
        """
        ...


def metered(picture: Tensor, geometry: Geometry, lights: tuple[Light, ...]) -> float:
    """The exposure under which the subject of a (H, W, 3) sRGB picture stays about as bright as it is."""
    small = _working(geometry, 64)
    bright = luminance(srgb_to_linear(picture[geometry.mask])).mean()
    surface = small.surface
    mean = luminance(matte(surface, small.seeing(lights), rays(small, lights))).mean()
    return float(bright / (ALBEDO * mean).clamp_min(1e-6))


def exposure_of(picture: Tensor, geometry: Geometry) -> float:
    """One for described lights from every direction, so that light from behind is darker than light from the front:
    that under which light of intensity 1 from the front, a little above, leaves the picture as bright as it is."""
    plain = LightDescription(direction=(0.0, 0.5, 0.75**0.5))
    return metered(picture, geometry, plain.lights(geometry.world_from_viewer, geometry.middle, geometry.radius))


def base_color(linear: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """(N, 3) albedo and (N,) shading of (N, 3) linear values of the mask's points: what varies as smoothly with the
    normal as light does, to the second spherical harmonic (Ramamoorthi and Hanrahan 2001), is light.

    Light is taken to be white, and albedo to have the mean ALBEDO.  Colours of light stay in the albedo, as do
    highlights and cast shadows.
    """
    bright = luminance(linear).clamp_min(1e-3)
    values = light_basis(geometry)
    shading = (values @ light_in(bright, values)).clamp_min(0.15 * bright.mean())
    paint = linear / shading[:, None]
    scale = ALBEDO / luminance(paint).mean().clamp_min(1e-6)
    return (paint * scale).clamp(0.01, 0.95), shading / scale


def light_basis(geometry: Geometry) -> Tensor:
    """(N, 10) of the mask's points: what light is a linear function of, roughly, on surfaces of one paint."""
    return torch.cat([basis(geometry.normal[geometry.mask], 2), geometry.open.mean(1, keepdim=True) * 2], 1)


def light_in(bright: Tensor, values: Tensor) -> Tensor:
    """(10,) that (N, 10) `light_basis` has to be multiplied with for (N,) luminance, most of which is of like paint."""
    shading = bright.mean().expand_as(bright)
    found = values.new_zeros(values.shape[1])
    for _ in range(12):
        # Relative errors, large ones no more than linearly, so that dark paint isn't taken for shade.
        off = (bright / shading).log()
        weight = 1 / (shading * shading * (0.1 + off.abs()))
        normal_matrix = (values * weight[:, None]).mT @ values
        ridge = 0.01 * normal_matrix.diagonal().mean() * torch.eye(values.shape[1])
        ridge[0, 0] *= 1e-3
        found = torch.linalg.solve(normal_matrix + ridge, (values * weight[:, None]).mT @ bright)
        shading = (values @ found).clamp_min(0.15 * bright.mean())
    return found


@dataclass(frozen=True)
class ShadingRelighter:
    """Estimated base colour times matte radiance hint: no gloss, no learning.

    size: pixels of the longer side at which light is worked out.  detail: see `detail.detailed`.
    """

    size: int = 192
    detail: float = 1.0

    network = None

    @property
    def change(self) -> int:
        """See `Painter`."""
        return self.size

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        checked(picture, geometry)
        (after,) = self.painted([Shown.of(picture, geometry, light, self.size)])
        return full_size(picture, after, geometry, self.size, self.detail)

    def painted(
        self,
        shown: Sequence[Shown],
        *,
        seeds: Sequence[int] = (0,),
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """See `Painter`."""
        return torch.stack([self._painted(one.picture, one.geometry, one.light) for one in shown])

    def _painted(self, linear: Tensor, small: Geometry, light: NewLight) -> Tensor:
        paint, _ = base_color(linear[small.mask], small)
        received = matte(small.surface, small.seeing(light.lights), rays(small, light.lights))
        return small.spread(paint * received * light.exposure)


@dataclass(frozen=True)
class PriorRelighter:
    """Our own network for the task "relight": told the photograph, its shape and radiance hints of the new light.

    It paints `size` pixels of the subject's box; detail comes from the photograph.  steps: of sampling; 0 for what is
    expected, which is nearer to the truth than a sample.  scale: of guidance away from no hints, when sampled.
    """

    prior: Prior
    size: int = 96
    steps: int = 0
    scale: float = 1.0
    detail: float = 1.0
    ensemble: int = 1
    """Samples whose mean is taken."""

    def __post_init__(self) -> None:
        if self.prior.config.task != "relight":
            raise RelighterError(
                f"prior: was trained for {self.prior.config.task!r}, expected one for 'relight'; "
                "python -m relight.diffusion.own.train relight makes one"
            )

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        return relit_in_box(self, picture, geometry, light, seed)

    @property
    def change(self) -> int:
        """See `Painter`."""
        return self.size

    @property
    def network(self) -> torch.nn.Module:
        """See `Painter`."""
        return self.prior.network

    def painted(
        self,
        shown: Sequence[Shown],
        *,
        seeds: Sequence[int] = (0,),
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """See `Painter`."""
        told = [self._told(one) for one in shown]
        count, many, size = len(shown), self.ensemble, shown[0].geometry.size

        def stacked(parts: Sequence[Tensor]) -> Condition:
            return Condition(torch.cat([part.expand(many, -1, -1, -1) for part in parts]).to(self.prior.device))

        def linear(painted: Tensor) -> Tensor:
            means = painted.cpu().unflatten(0, (count, many)).mean(1)
            return srgb_to_linear((0.5 + 0.5 * means).clamp(0, 1).permute(0, 2, 3, 1))

        condition, shape = stacked([maps for maps, _ in told]), (count * many, *size)
        if not self.steps:
            return linear(self.prior.expected(condition, shape))
        without = stacked([bare for _, bare in told]) if self.scale != 1 else Condition()
        noise = [
            torch.randn(many, self.prior.channels, *size, generator=Generator().manual_seed(seed))
            for seed in (seeds if len(seeds) == count else [*seeds] * count)
        ]
        steps = iter(range(self.steps))

        def led(target: Tensor) -> Tensor:
            if between is None:
                return target
            aimed = linear_to_srgb(between(next(steps), linear(target)).clamp(0, 1)).permute(0, 3, 1, 2)
            # Members of an ensemble keep what they differ by.
            means = target.unflatten(0, (count, many)).mean(1)
            return target + (2 * aimed.to(target) - 1 - means).repeat_interleave(many, 0)

        return linear(
            self.prior.sample(
                condition, shape, steps=self.steps, scale=self.scale, without=without,
                noise=torch.cat(noise).to(self.prior.device), between=led,
            )
        )  # fmt: skip

    def _told(self, shown: Shown) -> tuple[Tensor, Tensor]:
        """(1, C, h, w) maps with hints, and without."""
        small, lights = shown.geometry, shown.light.lights
        hints = radiance_hints(small.surface, small.seeing(lights), rays(small, lights))
        drawn = torch.cat([small.spread(as_hint(hint, shown.light.exposure)) for hint in hints], -1)

        def planes(values: Tensor) -> Tensor:
            return values.permute(2, 0, 1)[None]

        known = {
            "photo": planes(linear_to_srgb(shown.picture) * small.mask[..., None]),
            "mask": planes(small.mask[..., None].float()),
            "normal": planes(small.normal_in_camera),
            "depth": planes(small.closeness[..., None]),
        }
        return condition_maps(**known, hints=planes(drawn)), condition_maps(**known)


@dataclass(frozen=True)
class Unchanged:
    """The picture as it is: what any relighter has to beat."""

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        checked(picture, geometry)
        return picture


def _prior(weights: str | None, **options) -> ImageRelighter:
    options.pop("base", None)
    return PriorRelighter(Prior.load(weights or "relight"), **options)


def _shading(weights: str | None, **options) -> ImageRelighter:
    if weights is not None:
        raise RelighterError(f"model 'shading': takes no weights, found {weights!r}; leave them out")
    return ShadingRelighter(detail=options.get("detail", 1.0))


BUILTIN: Mapping[str, tuple[Callable[..., ImageRelighter], str]] = {
    "prior": (_prior, "our own network, which comes with relight; --weights takes others of its kind"),
    "shading": (_shading, "estimated base colour times light; nothing learned"),
}
"""By name: what makes it from weights (a path, an id or None) and options, and what it is."""
PUBLIC = ("ic-light-fc", "ic-light-fbc", "dilightnet", "neural-gaffer")
"""Published models, of `relight.diffusion.public.relighters`; weights are a folder or a name of a hub."""


def create_relighter(name: str = "prior", weights: str | None = None, **options) -> ImageRelighter:
    """By name.  options: fields of `PriorRelighter`, and `base` of public models; those that a model doesn't have, it
    ignores.  Raises RelighterError, and PriorError or DataError for weights that aren't there.
    """
    if name in BUILTIN:
        return BUILTIN[name][0](weights, **options)
    if name not in PUBLIC:
        raise RelighterError(f"model {name!r}: unknown{did_you_mean(name, [*BUILTIN, *PUBLIC])}")
    from relight.diffusion.public.relighters import create

    return create(name, weights, **options)


def checked(picture: Tensor, geometry: Geometry) -> None:
    """Raise RelighterError unless the picture fits the geometry, and that shows something."""
    if tuple(picture.shape) != (*geometry.size, 3):
        raise RelighterError(f"relight: expected a picture {(*geometry.size, 3)}, found {tuple(picture.shape)}")
    if not bool(geometry.mask.any()):
        raise RelighterError("relight: the mask is empty, so there is nothing to relight; give another")


def _working(geometry: Geometry, size: int) -> Geometry:
    small = geometry.resized(*within(geometry.size, size))
    # A subject thinner than a small pixel is still one.
    return small if bool(small.mask.any()) else replace(small, mask=torch.ones_like(small.mask))


def shrunk(picture: Tensor, geometry: Geometry, size: int) -> tuple[Tensor, Geometry]:
    """(h, w, 3) linear of a (H, W, 3) sRGB picture, without what is beside the subject, and the shape, at no more than
    `size` pixels of the longer side; its mask is never empty."""
    small = _working(geometry, size)
    return resized_inside(srgb_to_linear(picture), geometry.mask, small.size), small


def relit_in_box(painter: Painter, picture: Tensor, geometry: Geometry, light: NewLight, seed: int) -> Tensor:
    """`ImageRelighter.relit` of a painter that is shown the subject's box alone.  Raises RelighterError."""
    checked(picture, geometry)
    top, left, height, width = box(geometry.mask)
    part = geometry.cropped(top, left, height, width)
    crop = picture[top : top + height, left : left + width]
    (after,) = painter.painted([Shown.of(crop, part, light, painter.size)], seeds=[seed])
    out = picture.clone()
    out[top : top + height, left : left + width] = full_size(crop, after, part, painter.change, painter.detail)
    return out


def full_size(picture: Tensor, after: Tensor, geometry: Geometry, size: int, detail: float) -> Tensor:
    """(H, W, 3) sRGB: the (H, W, 3) sRGB picture in the light of (h, w, 3) linear `after`; see `detail.detailed`."""
    linear = detailed(srgb_to_linear(picture), after, geometry, size, detail)
    return torch.where(geometry.mask[..., None], linear_to_srgb(linear.clamp(0, 1)), picture)


def rays(geometry: Geometry, lights: tuple[Light, ...]) -> Tracer | None:
    """What casts shadows of small lights; None if there are none: others know theirs."""
    return None if all(isinstance(light, Surroundings) for light in lights) else geometry.rays


def box(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of the (H, W) mask's subject, with a margin."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    margin = round(MARGIN * max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0]))) + 1
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    bottom = min(mask.shape[0], int(rows[-1]) + 1 + margin)
    right = min(mask.shape[1], int(columns[-1]) + 1 + margin)
    return top, left, bottom - top, right - left
