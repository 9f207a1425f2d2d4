"""Light-A-Video (Zhou et al., ICCV 2025): a video diffusion model keeps consistent what a relighter of pictures does.

While the video model is sampled, at each step what it expects is shown as frames, these are relit with attention shared
among them, and part of the change goes back into what is aimed at.  The part falls from 1: first light is set, then the
video model has the last word.  No training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from relight.diffusion.pictures.relighters import Painter, Shown, box, full_size
from relight.diffusion.protocol import Condition, Denoiser
from relight.diffusion.samplers import Sampling, sample
from relight.diffusion.video.attention import consistent
from relight.diffusion.video.feedback import GeometryFeedback
from relight.diffusion.video.protocol import Window
from relight.resize import resized
from relight.shading.color import linear_to_srgb, srgb_to_linear

CHANGE = 128
"""Pixels of the longer side at which the change of light is taken over; what is finer comes from the film."""


class FilmModel(Denoiser, Protocol):
    """A `Denoiser` whose batch is one film; see `relight.diffusion.public.video_models`."""

    sampling: Sampling
    words: Any

    @property
    def squeeze(self) -> tuple[int, int]: ...
    def encode(self, frames: Tensor) -> Tensor: ...
    def decode(self, latents: Tensor, count: int) -> Tensor: ...


@dataclass(frozen=True)
class LightAVideo:
    """A `VideoRelighter` of both.

    gamma: see `ConsistentAttention`; 0.5 for AnimateDiff, 0.7 for Wan and CogVideoX in the paper.  strength: of the
    noise that the video model begins with.  least: share of the relit below which it is left out.  power: of the fall
    of the share, 1 (AnimateDiff, Wan) or 2 (CogVideoX).  size: pixels of the film's longer side in the model.
    feedback: holds the relit to the shapes that the film shows.
    """

    painter: Painter
    video: FilmModel
    gamma: float = 0.5
    strength: float = 0.5
    least: float = 0.15
    power: float = 1.0
    size: int = 512
    detail: float = 1.0
    sampling: Sampling | None = None
    feedback: GeometryFeedback | None = None

    def share(self, step: int, steps: int) -> float:
        """Of the relit in what is aimed at; the paper's lambda."""
        share = 1 - (step / max(steps - 1, 1)) ** self.power
        return share if share > self.least else 0.0

    def relit(self, window: Window, *, seed: int = 0) -> list[Tensor]:
        """See `VideoRelighter`."""
        if not bool(window.mask.any()):
            return list(window.frames)
        cut = Cut.of(window, self.size, self.video.squeeze[1])
        source = cut.frames
        how = self.sampling or self.video.sampling
        residual: list[Tensor] = []

        def fused(step: int, latents: Tensor) -> Tensor:
            share = self.share(step, how.count)
            if share == 0:
                return latents
            seen = self.video.decode(latents, len(source))
            if not residual:  # what the video model's latents lose of the film, kept as long as light is set
                residual.append(source - seen)
            target = (seen + share * residual[0]).clamp(-1, 1)
            with consistent(self.painter.network, self.gamma):
                relit = self._painted(cut, target, seed)
            mixed = torch.lerp(target, relit, share)
            if self.feedback is not None:
                seen, shown = (0.5 + 0.5 * film.permute(0, 2, 3, 1) for film in (mixed, source))
                mixed = 2 * self.feedback.held(seen, shown, cut.shapes).permute(0, 3, 1, 2) - 1
            return self.video.encode(mixed)

        latents = sample(
            self.video, how, condition=Condition(tokens=self.video.words(cut.words)), start=self.video.encode(source),
            strength=self.strength, generator=Generator().manual_seed(seed), replace_x0=fused,
        )  # fmt: skip
        return cut.back(self.video.decode(latents, len(source)).clamp(-1, 1), self.detail)

    def _painted(self, cut: Cut, target: Tensor, seed: int) -> Tensor:
        """(F, 3, H, W), -1 to 1, relit, of the same."""
        shown = [
            Shown.of(0.5 + 0.5 * picture.permute(1, 2, 0), shape, light, self.painter.size)
            for picture, shape, light in zip(target, cut.shapes, cut.lights, strict=True)
        ]
        painted = self.painter.painted(shown, seeds=[seed])
        size = target.shape[-2:]
        made = torch.stack([2 * linear_to_srgb(resized(one, *size).clamp(0, 1)) - 1 for one in painted])
        masks = torch.stack([shape.mask for shape in cut.shapes])[:, None]
        return torch.where(masks, made.permute(0, 3, 1, 2), target)


@dataclass(frozen=True)
class FilmRelighter:
    """A `VideoRelighter` of a model that was trained to relight films: `relight.diffusion.public.lumos_video`.

    size, detail: as of `LightAVideo`.
    """

    model: Any
    size: int = 832
    detail: float = 1.0
    sampling: Sampling | None = None

    def relit(self, window: Window, *, seed: int = 0) -> list[Tensor]:
        """See `VideoRelighter`."""
        if not bool(window.mask.any()):
            return list(window.frames)
        cut = Cut.of(window, self.size, self.model.denoiser.squeeze[1])
        grounds = [light.background for light in window.lights if light.background is not None]
        behind = None
        if len(grounds) == len(window) and self.model.background:
            size = cut.frames.shape[-2:]
            behind = torch.stack([2 * resized(ground, *size).permute(2, 0, 1) - 1 for ground in grounds])
        made = self.model.relight(
            cut.frames, cut.words, background=behind, sampling=self.sampling,
            generator=Generator().manual_seed(seed),
        )  # fmt: skip
        return cut.back(made, self.detail)


@dataclass(frozen=True)
class Cut:
    """The subject's box of a window, as models are shown it.  frames: (F, 3, H, W), -1 to 1."""

    window: Window
    place: tuple[int, int, int, int]
    frames: Tensor
    shapes: tuple
    lights: tuple

    @staticmethod
    def of(window: Window, size: int, unit: int) -> Cut:
        """size: of the longer side.  unit: both sides become multiples of it."""
        top, left, height, width = box(window.mask)
        scale = size / max(height, width)
        rows, columns = (max(unit, round(n * scale / unit) * unit) for n in (height, width))
        parts = [shape.cropped(top, left, height, width) for shape in window.geometries]
        crops = [frame[top : top + height, left : left + width] for frame in window.frames]
        frames = torch.stack([2 * resized(crop, rows, columns).permute(2, 0, 1) - 1 for crop in crops])
        shapes = tuple(part.resized(rows, columns) for part in parts)
        return Cut(window, (top, left, height, width), frames, shapes, tuple(window.lights))

    @property
    def words(self) -> str:
        """Of the first frame's light."""
        said = self.lights[0].description
        return "" if said is None else said.words()

    def back(self, made: Tensor, detail: float) -> list[Tensor]:
        """The window's frames in the light of (F, 3, H, W), -1 to 1."""
        top, left, height, width = self.place
        out = []
        for frame, shape, picture in zip(self.window.frames, self.window.geometries, made, strict=True):
            part = shape.cropped(top, left, height, width)
            crop = frame[top : top + height, left : left + width]
            after = resized(srgb_to_linear(0.5 + 0.5 * picture.permute(1, 2, 0)), height, width)
            done = frame.clone()
            done[top : top + height, left : left + width] = full_size(crop, after, part, CHANGE, detail)
            out.append(done)
        return out
