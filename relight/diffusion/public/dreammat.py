"""DreamMat's ControlNet (Zhang et al., SIGGRAPH 2024) for Stable Diffusion 2.1: told the light, it has no reason to
paint light into a material.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relight.diffusion.protocol import Condition
from relight.diffusion.public.diffusers_model import DiffusersModel
from relight.diffusion.public.place import Place, StableDiffusion
from relight.diffusion.samplers import Sampling, sample
from relight.errors import RelightError, ShapeError

MATERIALS = tuple((metallic, roughness) for metallic in (0.0, 1.0) for roughness in (0.0, 0.5, 1.0))
"""(metallic, roughness) of its six renders of the white mesh under the light, in its order."""
NEAREST, FARTHEST = 1.0, 0.3
"""What it is told of depth: inverse, from the nearest place of the object to its farthest; 0 is background."""
CHANNELS = 22


class DreamMat:
    """A light-aware teacher: give `denoiser` and `condition` to score distillation, both of its terms the same maps."""

    def __init__(self, base: StableDiffusion, controlnet: object):
        self.words, self.sampling = base.words, Sampling("unipc", 20, 7.5)
        nothing = base.words("")
        self.denoiser = DiffusersModel(
            base.network, base.schedule, vae=base.vae, controlnet=controlnet, nothing=nothing
        )

    @torch.no_grad()
    def condition(self, maps: Tensor, prompt: str) -> Condition:
        """Of `maps_of` and a text."""
        return Condition(maps, self.words(prompt).to(maps.device))

    @torch.no_grad()
    def paint(self, maps: Tensor, prompt: str, unwanted: str = "", generator: torch.Generator | None = None) -> Tensor:
        """(B, 3, H, W), clamped: a picture of what the text says with this geometry in this light."""
        told = self.condition(maps, prompt)
        shape = (len(maps), self.denoiser.channels, *(n // self.denoiser.factor for n in maps.shape[-2:]))
        latents = sample(
            self.denoiser, self.sampling, shape, told, without=self.condition(maps, unwanted), generator=generator,
            device=maps.device,
        )  # fmt: skip
        return self.denoiser.decode(latents).clamp(-1, 1)


def load(place: Place) -> DreamMat:
    """Base and ControlNet."""
    with place.reading(place.source):
        from diffusers import ControlNetModel
    controlnet = place.part(ControlNetModel, place.source)
    if controlnet.config.conditioning_channels != CHANNELS:
        raise place.error(place.source, f"takes {controlnet.config.conditioning_channels} channels, not {CHANNELS}")
    return DreamMat(place.stable_diffusion(), controlnet)


def maps_of(depth: Tensor, normal: Tensor, renders: Tensor) -> Tensor:
    """(B, 22, H, W), 0 to 1, as it was trained: depth 1, normal 3, renders 18.

    depth: (B, 1, H, W) along the view, 0 where there is nothing.  normal: (B, 3, H, W) unit, of the camera (x right,
    y down, z forward).  renders: (B, 6, 3, H, W) of the white mesh with `MATERIALS` in its order, 0 to 1, made fit for
    displays (its own are Blender's Filmic), 0 where there is nothing.  Normals are drawn as its Blender scripts do: red
    is left, green up, blue towards the eye, background (0.5, 0.5, 1).  Raises ShapeError, RelightError.
    """
    size = depth.shape[-2:]
    for name, tensor, shape in (
        ("depth", depth, (len(depth), 1, *size)),
        ("normal", normal, (len(depth), 3, *size)),
        ("renders", renders, (len(depth), len(MATERIALS), 3, *size)),
    ):
        if tensor.shape != shape:
            raise ShapeError.expected(name, str(tuple(shape)), tuple(tensor.shape))
    if float(renders.min()) < 0 or float(renders.max()) > 1:
        raise RelightError("renders: expected values from 0 to 1; make them fit for displays first")
    there = depth > 0
    inverse = torch.where(there, 1 / depth.clamp(min=1e-6), torch.nan)
    low = inverse.nan_to_num(nan=torch.inf).amin((1, 2, 3), keepdim=True)
    high = inverse.nan_to_num(nan=0.0).amax((1, 2, 3), keepdim=True)
    shown = FARTHEST + (NEAREST - FARTHEST) * (inverse - low) / (high - low + 1e-6)
    background = normal.new_tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1)
    return torch.cat([shown.where(there, 0.0), (0.5 - 0.5 * normal).where(there, background), renders.flatten(1, 2)], 1)
