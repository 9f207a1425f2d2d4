"""Marigold-IID (Ke et al., arXiv 2505.09358): intrinsic images by Stable Diffusion 2, by its class in diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relight.diffusion.protocol import Condition
from relight.diffusion.public.diffusers_model import DiffusersModel, Schedule
from relight.diffusion.public.place import Place
from relight.diffusion.samplers import Sampling


class MarigoldIID:
    """names: of the pictures that it makes of one, 3 channels each, in this order in `denoiser`'s latents."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline
        self.properties: dict[str, Any] = pipeline.target_properties or {}
        self.names = tuple(self.properties.get("target_names", ()))
        self.sampling = Sampling("ddim", pipeline.default_denoising_steps or 4)
        with torch.no_grad():
            ids = pipeline.tokenizer("", padding="do_not_pad", return_tensors="pt").input_ids
            nothing = pipeline.text_encoder(ids.to(pipeline.text_encoder.device))[0]
        self.denoiser = DiffusersModel(
            pipeline.unet, Schedule.of(pipeline.scheduler), vae=pipeline.vae, nothing=nothing, maps_first=True
        )

    @torch.no_grad()
    def condition(self, picture: Tensor) -> Condition:
        """Of (B, 3, H, W): its latents come before the noisy ones."""
        return Condition(self.denoiser.encode(picture))

    @torch.no_grad()
    def decompose(
        self, picture: Tensor, ensemble: int = 1, steps: int | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Name to (B, 3 or 1, H, W), 0 to 1, by the pipeline: at the resolution it was trained for, then back.

        Encoded as the model says of each ("prediction_space"): "linear" or "srgb".  ensemble: from 3 on, of so many
        samples the median.
        """
        self.pipeline.set_progress_bar_config(disable=True)
        # The pipeline takes its parts to be on one device, of one type.
        self.pipeline.text_encoder.to(picture.device, self.denoiser.network.dtype)
        found = self.pipeline(
            (picture.clamp(-1, 1) + 1) / 2, num_inference_steps=steps, ensemble_size=ensemble, generator=generator,
            output_type="pt",
        ).prediction  # fmt: skip
        found = found.unflatten(0, (len(picture), len(self.names)))
        layers: dict[str, Tensor] = {}
        for k, name in enumerate(self.names):
            parts = self.properties.get(name, {}).get("sub_target_names")
            if parts is None:
                layers[name] = found[:, k]
            else:  # one channel each
                layers |= {part: found[:, k, c : c + 1] for c, part in enumerate(parts) if part is not None}
        return layers


def load(place: Place) -> MarigoldIID:
    """The whole pipeline."""
    with place.reading(place.source):
        from diffusers import MarigoldIntrinsicsPipeline

        pipeline = MarigoldIntrinsicsPipeline.from_pretrained(
            place.source, local_files_only=not place.download, use_safetensors=True
        )
    made = MarigoldIID(pipeline)
    if len(made.names) * pipeline.vae.config.latent_channels != made.denoiser.channels:
        raise place.error(place.source, f"names {len(made.names)} pictures and makes {made.denoiser.channels} latents")
    return made
