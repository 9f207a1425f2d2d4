"""IC-Light (Zhang et al., ICLR 2025): Stable Diffusion 1.5 that is shown a foreground, and a background or not.

What is published are differences: to each weight of the base, after its first layer was widened for the latents of
foreground (and background), which come after the noisy ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relight.diffusion.protocol import Condition
from relight.diffusion.public.diffusers_model import DiffusersModel, widen
from relight.diffusion.public.place import Place, StableDiffusion
from relight.diffusion.samplers import Sampling, sample
from relight.errors import RelightError
from relight.resize import bicubic

SDE = {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}
UNWANTED = "lowres, bad anatomy, bad hands, cropped, worst quality"
"""What the authors' demo leads away from."""
SIDES = ("left", "right", "top", "bottom")


class ICLight:
    """background: is it shown one?  Its light follows it; else light follows words and what it begins with."""

    def __init__(self, base: StableDiffusion, background: bool):
        self.background = background
        self.sampling = Sampling("dpm", 20, 7.0, SDE) if background else Sampling("dpm", 25, 2.0, SDE)
        self.words = base.words
        self.denoiser = DiffusersModel(base.network, base.schedule, vae=base.vae, nothing=base.words(""))

    @torch.no_grad()
    def condition(self, foreground: Tensor, prompt: str, background: Tensor | None = None) -> Condition:
        """Of pictures (B, 3, H, W); mid grey (0) where they are cut out.  Raises RelightError."""
        if (background is not None) != self.background:
            wants = (
                "needs a background; ic-light-fc does without" if self.background else "takes none; ic-light-fbc does"
            )
            raise RelightError(f"ic-light: {wants}")
        shown = [foreground] if background is None else [foreground, background]
        maps = self.denoiser.encode(torch.cat(shown, 1))
        return Condition(maps, self.words(prompt).to(foreground.device))

    @torch.no_grad()
    def relight(
        self,
        foreground: Tensor,
        prompt: str,
        *,
        background: Tensor | None = None,
        light: str | None = None,
        unwanted: str = UNWANTED,
        sampling: Sampling | None = None,
        refined: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, 3, H, W), clamped.  light: one of `SIDES`: a picture brightest there is what the fc model begins with
        (noised to 0.9), and is the background of the fbc model that is given none.  refined: 1.5 makes it again that
        much larger, from 0.5 of noise, as the demo does.
        """
        height, width = foreground.shape[-2:]
        start = None
        if light is not None and self.background and background is None:
            background = gradient(light, height, width, 224, 32).to(foreground).expand_as(foreground)
        elif light is not None:
            start = self.denoiser.encode(gradient(light, height, width, 255, 0).to(foreground).expand_as(foreground))
        how, strength = sampling or self.sampling, 0.9 if start is not None else 1.0
        picture = self._once(foreground, background, prompt, unwanted, how, start, strength, generator)
        if refined == 1:
            return picture
        step = self.denoiser.factor
        size = (round(height * refined / step) * step, round(width * refined / step) * step)
        larger, front, back = (
            None if p is None else bicubic(p, size).clamp(-1, 1) for p in (picture, foreground, background)
        )
        assert larger is not None and front is not None
        return self._once(front, back, prompt, unwanted, how, self.denoiser.encode(larger), 0.5, generator)

    def _once(
        self,
        foreground: Tensor,
        background: Tensor | None,
        prompt: str,
        unwanted: str,
        how: Sampling,
        start: Tensor | None,
        strength: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        told = self.condition(foreground, prompt, background)
        assert told.maps is not None
        away = Condition(told.maps, self.words(unwanted).to(foreground.device))
        shape = (len(foreground), self.denoiser.channels, *told.maps.shape[-2:])
        latents = sample(
            self.denoiser, how, shape, told, without=away, start=start, strength=strength, generator=generator,
            device=foreground.device,
        )  # fmt: skip
        return self.denoiser.decode(latents).clamp(-1, 1)


def load(place: Place) -> ICLight:
    """Base and differences."""
    background = place.name.endswith("fbc")
    base = place.stable_diffusion()
    offsets = place.tensors(place.published.file)
    widen(base.network, 12 if background else 8)
    weights = base.network.state_dict()
    shapes = {k: v.shape for k, v in weights.items()}
    if shapes != {k: v.shape for k, v in offsets.items()}:
        wrong = sorted(
            k for k in shapes.keys() | offsets.keys() if k not in offsets or shapes.get(k) != offsets[k].shape
        )
        raise place.error(place.source, f"is for another base or model: {len(wrong)} weights differ, as {wrong[0]}")
    base.network.load_state_dict({k: v + offsets[k].to(v) for k, v in weights.items()})
    return ICLight(base, background)


def gradient(side: str, height: int, width: int, bright: float, dark: float) -> Tensor:
    """(1, 3, height, width), -1 to 1: a ramp of grey from `bright` at one of `SIDES` to `dark`, both of 255."""
    if side not in SIDES:
        raise RelightError(f"light from {side!r} is unknown; there are: {', '.join(SIDES)}")
    along = torch.linspace(bright, dark, width if side in ("left", "right") else height) / 127.5 - 1
    along = along.flip(0) if side in ("right", "bottom") else along
    ramp = along[None, :] if side in ("left", "right") else along[:, None]
    return ramp.expand(1, 3, height, width)
