"""StableMaterials (Vecchio, arXiv 2406.09293): tileable material maps from a text or a picture.

Its repository has code of its own to be run; this is written from what that does, and runs none of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition
from relight.diffusion.public.clip import look
from relight.diffusion.public.diffusers_model import DiffusersModel, Schedule
from relight.diffusion.public.place import Place
from relight.diffusion.samplers import Sampling, sample
from relight.diffusion.tileable import tileable, wrapped

TILED_FROM = 0.77
"""The time from which on maps meet themselves: after the first quarter of its steps, which settles what is where."""
SIZE = 512
CHANNELS = 8
"""That its decoder must make at least: base colour 3, normal's x and y, height, roughness, metalness."""


class StableMaterials:
    """One token, CLIP's of a text or of a picture, is all that it is told; a black picture's is nothing."""

    def __init__(
        self, network: Any, vae: Any, schedule: Schedule, tokenizer: Any, text_encoder: Any, vision_encoder: Any
    ):
        self.tokenizer, self.text_encoder, self.vision_encoder = tokenizer, text_encoder, vision_encoder
        fast = network.config.time_cond_proj_dim is not None  # guidance of 10 was distilled into it: it is told
        self.sampling = Sampling("lcm", 4) if fast else Sampling("ddim", 50, 10.0)
        black = look(vision_encoder, torch.full((1, 3, 8, 8), -1.0, device=network.device))
        self.denoiser = DiffusersModel(network, schedule, vae=vae, nothing=black, told_guidance=10.0 if fast else None)

    @torch.no_grad()
    def condition(self, prompt: str | Tensor) -> Condition:
        """Of a text, or of a picture (B, 3, H, W)."""
        device = self.denoiser.network.device
        if isinstance(prompt, Tensor):
            return Condition(tokens=look(self.vision_encoder, prompt.to(device)))
        words = self.tokenizer(prompt, padding=True, truncation=True, return_tensors="pt").to(device)
        encoder = self.text_encoder.to(device)
        return Condition(
            tokens=encoder(input_ids=words.input_ids, attention_mask=words.attention_mask).text_embeds[:, None]
        )

    @torch.no_grad()
    def make(
        self,
        prompt: str | Tensor,
        size: int = SIZE,
        *,
        tiled: bool = True,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Maps "base_color" and "normal" (B, 3, size, size), "height", "roughness", "metallic" (B, 1, ...), 0 to 1.

        Base colour as its training data has it, sRGB-encoded; normals 0.5 + 0.5 n, z out of the surface.
        tiled: opposite edges meet.
        """
        told = self.condition(prompt)
        assert told.tokens is not None
        side = size // self.denoiser.factor
        model = Tiled(self.denoiser) if tiled else self.denoiser
        latents = sample(
            model, sampling or self.sampling, (len(told.tokens), self.denoiser.channels, side, side), told,
            generator=generator, device=told.tokens.device,
        )  # fmt: skip
        margin = side // 8 if tiled else 0
        cut = margin * self.denoiser.factor
        picture = self.denoiser.decode(wrapped(latents, margin) if margin else latents)
        return split(picture[..., cut : cut + size, cut : cut + size] / 2 + 0.5)


class Tiled:
    """A `Denoiser` whose later pictures have no edges."""

    def __init__(self, model: DiffusersModel):
        self.model, self.channels, self.rates = model, model.channels, model.rates

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        if float(t.max()) > TILED_FROM:
            return self.model.clean(noisy, t, condition)
        with tileable(self.model.network):
            return self.model.clean(noisy, t, condition)


def split(maps: Tensor) -> dict[str, Tensor]:
    """Of (B, >= 8, H, W), 0 to 1: see `StableMaterials.make`."""
    flat = maps[:, 3:5] * 2 - 1
    length = flat.square().sum(1, keepdim=True)
    flat = flat / length.sqrt().clamp(min=1)
    normal = torch.cat([flat, (1 - length).clamp(min=0).sqrt()], 1)
    return {
        "base_color": maps[:, :3].clamp(0, 1),
        "normal": 0.5 + 0.5 * normal,
        "height": maps[:, 5:6].clamp(0, 1),
        "roughness": maps[:, 6:7].clamp(0, 1),
        "metallic": maps[:, 7:8].clamp(0, 1),
    }


def load(place: Place) -> StableMaterials:
    """Part by part, for the pipeline's own class isn't in diffusers."""
    with place.reading(place.source):
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection
    here = place.source
    network = place.part(UNet2DConditionModel, here, "unet_lcm" if place.name.endswith("lcm") else "unet")
    vae = place.part(AutoencoderKL, here, "vae")
    latents, maps = vae.config.latent_channels, vae.config.out_channels
    if network.config.out_channels != latents or maps < CHANNELS:
        raise place.error(
            here, f"its network makes {network.config.out_channels} channels and its VAE {maps} maps of {latents}; "
            f"expected as many, and {CHANNELS} maps at least: another version of it"
        )  # fmt: skip
    return StableMaterials(
        network,
        vae,
        Schedule.of(place.part(DDIMScheduler, here, "scheduler", weights=False)),
        place.part(CLIPTokenizer, here, "tokenizer", weights=False),
        place.part(CLIPTextModelWithProjection, here, "text_encoder"),
        place.part(CLIPVisionModelWithProjection, here, "vision_encoder"),
    )
