"""Progressive light fusion without a video model: the change of light, averaged along the motion of things.

Light-A-Video (Zhou et al., ICCV 2025) leads the relit frames, while they are sampled, towards a target that is
consistent in time, which a video diffusion model makes (`light_a_video`).  Here the target is made by the frames
themselves.  What is averaged is what the relighter says beyond the physically based hint, so that light that moves or
flickers on purpose, which the hint knows of each frame, is neither smeared nor late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.diffusion.pictures.detail import FLOOR, MOST
from relight.diffusion.pictures.geometry import Geometry, looked_up, resized_inside
from relight.diffusion.pictures.hints import matte
from relight.diffusion.pictures.relighters import ALBEDO, Painter, Shown, box, full_size, rays
from relight.diffusion.video.attention import consistent
from relight.diffusion.video.feedback import GeometryFeedback
from relight.diffusion.video.motion import EstimatedMotion, ExactMotion, Motion
from relight.diffusion.video.protocol import Window
from relight.resize import resized, within
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.vectors import unit


@dataclass(frozen=True)
class FusedRelighter:
    """A `VideoRelighter` of any `Painter`.

    attention: share of the attention to the window's mean (gamma of Light-A-Video); 0 for none.  reach: frames before
    and after that are averaged, weighted by a Gaussian of half of it; 0 for none.  trust: share of what the relighter
    says beyond a window's guides, where there are any; 0 leaves the guides alone.  feedback: holds what is sampled to
    the shapes that the film shows.
    """

    painter: Painter
    attention: float = 0.5
    reach: int = 4
    trust: float = 1.0
    feedback: GeometryFeedback | None = None

    def relit(self, window: Window, *, seed: int = 0) -> list[Tensor]:
        """See `VideoRelighter`."""
        if not bool(window.mask.any()):
            return list(window.frames)
        size, (top, left, height, width) = self.painter.size, box(window.mask)
        rows, columns = slice(top, top + height), slice(left, left + width)
        crops = [frame[rows, columns] for frame in window.frames]
        parts = [shape.cropped(top, left, height, width) for shape in window.geometries]
        flows = None if window.rendered else EstimatedMotion(crops)
        if flows is not None:
            parts = steadied(parts, flows.at(*within((height, width), self.painter.change)), self.reach)
        given = list(zip(crops, parts, window.lights, strict=True))
        shown = [Shown.of(crop, part, light, size) for crop, part, light in given]
        change = self.painter.change
        smaller = shown if change >= size else [Shown.of(crop, part, light, change) for crop, part, light in given]
        shapes = [one.geometry for one in smaller]
        small = ExactMotion(shapes) if flows is None else flows.at(*shapes[0].size)
        guides = self._guides(window, smaller, (rows, columns))
        # Noise of their own, so that the mean along the motion is nearer to the truth than any one; and the same for a
        # frame in every window that it is in.
        seeds = [seed + window.first + i for i in range(len(window))]
        with consistent(self.painter.network, self.attention):
            painted = self.painter.painted(
                shown, seeds=seeds, between=lambda step, clean: self._led(step, clean, guides, small, shown, smaller)
            )
        trust = self.trust if window.guides is not None else 1.0
        after = fused(shrunk(painted, shown, smaller), guides, small, self.reach, trust)
        out = []
        for frame, crop, part, linear in zip(window.frames, crops, parts, after, strict=True):
            done = frame.clone()
            done[rows, columns] = full_size(crop, linear, part, change, self.painter.detail)
            out.append(done)
        return out

    def _guides(self, window: Window, shown: Sequence[Shown], part: tuple[slice, slice]) -> Tensor:
        """(F, h, w, 3) linear: the scene's, or matte surfaces of mean albedo under each frame's light."""
        if window.guides is not None:
            return torch.stack([resized(g[part], *s.geometry.size) for g, s in zip(window.guides, shown, strict=True)])
        return torch.stack([hint(one) for one in shown])

    def _led(
        self, step: int, clean: Tensor, guides: Tensor, motion: Motion, shown: Sequence[Shown], smaller: Sequence[Shown]
    ) -> Tensor:
        """Of a step of sampling: early ones settle the light and are averaged most (lambda of Light-A-Video falls)."""
        if shown is smaller:
            clean = torch.lerp(clean, fused(clean, guides, motion, self.reach), 1 / (1 + step))
        if self.feedback is None:
            return clean
        source = linear_to_srgb(torch.stack([one.picture for one in shown]).clamp(0, 1))
        seen = linear_to_srgb(clean.clamp(0, 1))
        return srgb_to_linear(self.feedback.held(seen, source, [one.geometry for one in shown]))


def shrunk(painted: Tensor, shown: Sequence[Shown], smaller: Sequence[Shown]) -> Tensor:
    """(F, h', w', C) of (F, h, w, C) as shown, without what is beside the subjects."""
    size = smaller[0].geometry.size
    if tuple(painted.shape[1:3]) == size:
        return painted
    return torch.stack([resized_inside(p, one.geometry.mask, size) for p, one in zip(painted, shown, strict=True)])


def hint(shown: Shown) -> Tensor:
    """(h, w, 3) linear: what matte surfaces of mean albedo would show."""
    small, lights = shown.geometry, shown.light.lights
    received = matte(small.surface, small.seeing(lights), rays(small, lights))
    return small.spread(ALBEDO * shown.light.exposure * received)


def fused(after: Tensor, guides: Tensor, motion: Motion, reach: int, trust: float = 1.0) -> Tensor:
    """(F, h, w, 3) linear pictures whose logarithms beyond those of the guides, (F, h, w, 3), are averaged over `reach`
    frames to either side, along the motion.  trust: share of what is beyond the guides that stays."""
    # A floor as high as a dim guide, so that shadows' edges don't become large numbers.
    floor = FLOOR + 0.1 * guides.mean()
    beyond = ((after + floor) / (guides + floor)).clamp(1 / MOST, MOST).log()
    mean = averaged(beyond, motion, reach)
    return ((guides + floor) * (trust * mean).exp() - floor).clamp_min(0)


def averaged(values: Tensor, motion: Motion, reach: int) -> Tensor:
    """(F, h, w, C) values, each the mean of its own and its neighbours' up to `reach` frames away, along the motion.

    Weights fall as a Gaussian of deviation reach / 2, and with doubt about the motion.  A side that ends before the
    other does is balanced by less of the other, so that what changes evenly isn't late.
    """
    if reach == 0 or len(values) == 1:
        return values
    count, out = len(values), []
    for t in range(count):
        total, weights = values[t].clone(), torch.ones_like(values[t, ..., :1])
        for k in range(1, reach + 1):
            sides = []
            for s in (t - k, t + k):
                if 0 <= s < count:
                    place, sure = motion.between(t, s)
                    sides.append((looked_up(values[s], place), sure[..., None]))
            if not sides:
                break
            gaussian = torch.exp(torch.tensor(-2.0 * (k / reach) ** 2))
            # Alone, a side counts a fourth: it steadies, and shifts what moves only a little.
            least = torch.minimum(*[sure for _, sure in sides]) if len(sides) == 2 else torch.zeros_like(weights)
            for value, sure in sides:
                weight = gaussian * (0.75 * least + 0.25 * sure)
                total, weights = total + weight * value, weights + weight
        out.append(total / weights)
    return torch.stack(out)


def steadied(geometries: Sequence[Geometry], motion: Motion, reach: int) -> list[Geometry]:
    """Estimated shapes, averaged along the motion of small frames, so that they don't flicker."""
    if reach == 0 or len(geometries) == 1:
        return list(geometries)
    rows, columns = motion.between(0, 0)[1].shape
    fields = torch.stack(
        [resized(torch.cat([s.normal_in_camera, s.depth[..., None]], -1), rows, columns) for s in geometries]
    )
    changes = averaged(fields, motion, reach) - fields
    out = []
    for shape, change in zip(geometries, changes, strict=True):
        full = resized(change, *shape.size)
        turned = full[..., :3] @ shape.camera.world_from_camera[:3, :3].mT
        depth = (shape.depth + full[..., 3]).clamp_min(1e-3)
        out.append(replace(shape, normal=unit(shape.normal + turned), depth=depth))
    return out
