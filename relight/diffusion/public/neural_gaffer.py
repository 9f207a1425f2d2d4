"""Neural Gaffer (Jin et al., NeurIPS 2024): an object under an environment map, by Zero-1-to-3 shown more pictures.

Trained at 256 x 256 with white around the object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from relight.diffusion.protocol import Condition
from relight.diffusion.public.clip import look
from relight.diffusion.public.diffusers_model import DiffusersModel, Schedule, widen
from relight.diffusion.public.place import Place
from relight.diffusion.samplers import Sampling, sample


class NeuralGaffer:
    """See the module."""

    def __init__(self, network: Any, vae: Any, schedule: Schedule, vision_encoder: Any):
        self.vision_encoder, self.sampling = vision_encoder, Sampling("ddim", 50, 3.0)
        nothing = torch.zeros(1, 1, network.config.cross_attention_dim)
        self.denoiser = DiffusersModel(network, schedule, vae=vae, nothing=nothing)

    @torch.no_grad()
    def condition(self, picture: Tensor, log: Tensor, clipped: Tensor) -> Condition:
        """Of the object (B, 3, H, W) and `light_pictures`: latents of picture, log light, clipped light, none of them
        scaled as the noisy ones are."""
        shown = torch.cat([picture, *(p.to(picture).expand_as(picture) for p in (log, clipped))], 1)
        latents = self.denoiser.encode(shown) / self.denoiser.vae.config.scaling_factor
        return Condition(latents, look(self.vision_encoder, picture, whole=True))

    @torch.no_grad()
    def relight(
        self,
        picture: Tensor,
        log: Tensor,
        clipped: Tensor,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, 3, H, W), clamped.  Guidance leads away from zeros for all that it is told."""
        told = self.condition(picture, log, clipped)
        assert told.maps is not None
        shape = (len(picture), self.denoiser.channels, *told.maps.shape[-2:])
        latents = sample(
            self.denoiser, sampling or self.sampling, shape, told, generator=generator, device=picture.device
        )
        return self.denoiser.decode(latents).clamp(-1, 1)


def light_pictures(light: Callable[[Tensor], Tensor], size: int = 256) -> tuple[Tensor, Tensor]:
    """(1, 3, size, size) each, -1 to 1: log(1 + 10 L) over its greatest, and L clipped to 1, to the power 1 / 2.2.

    light: linear radiance (..., 3) of unit directions (..., 3) of the camera (x right, y down, z forward).  Rows go
    from up to down, columns by the angle about up from the left over forward, right and back to the left: forward is at
    a quarter, right in the middle.
    """
    rows, columns = ((torch.arange(size) + 0.5) / size for _ in range(2))
    elevation = torch.pi * (0.5 - rows)[:, None].expand(size, size)
    around = torch.pi * (1 - 2 * columns)[None, :].expand(size, size)
    # Right-handed about up: 0 is right, pi / 2 forward.
    right, forward = (f(around) * elevation.cos() for f in (torch.cos, torch.sin))
    radiance = light(torch.stack([right, -elevation.sin(), forward], -1)).clamp(min=0).permute(2, 0, 1)[None]
    log = torch.log1p(10 * radiance)
    return log / log.max().clamp(min=1e-6) * 2 - 1, radiance.clamp(max=1) ** (1 / 2.2) * 2 - 1


def load(place: Place) -> NeuralGaffer:
    """The base, widened, with the trained network in place of its own."""
    with place.reading(place.base):
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPVisionModelWithProjection
    network = place.part(UNet2DConditionModel, place.base, "unet")
    weights = place.tensors(place.published.file)
    with place.reading(place.source):
        widen(network, 16)
        network.load_state_dict({k.removeprefix("module."): v for k, v in weights.items()})
    return NeuralGaffer(
        network,
        place.part(AutoencoderKL, place.base, "vae"),
        Schedule.of(place.part(DDIMScheduler, place.base, "scheduler", weights=False)),
        place.part(CLIPVisionModelWithProjection, place.base, "image_encoder"),
    )
