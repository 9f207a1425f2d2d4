"""DiLightNet (Zeng et al., SIGGRAPH 2024): a ControlNet for Stable Diffusion 2.1 that is shown a picture and renders of
its rough shape in four materials under the new light, which it multiplies by what it reads from the picture.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from relight.diffusion.protocol import Condition
from relight.diffusion.public.diffusers_model import DiffusersModel
from relight.diffusion.public.place import Place, StableDiffusion
from relight.diffusion.samplers import Sampling, sample
from relight.errors import ShapeError

HINTS = ("diffuse", "0.05", "0.13", "0.34")
"""White materials of its hints, in its order: Lambertian, and GGX of these roughnesses as Blender's slider has them."""


class HintedEmbedding(nn.Module):
    """(B, 4 + 12, H, W): mask and picture, hints; to (B, channels, H / 8, W / 8).  Names are those of its weights."""

    def __init__(self, channels: int, widths: tuple[int, ...], seen: int = 4, hints: int = 3 * len(HINTS)):
        super().__init__()
        self.seen = seen
        self.neural_texture_encoder = _Texture(seen, hints)
        self.conv_in = nn.Conv2d(hints, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            layer
            for narrow, wide in pairwise(widths)
            for layer in (nn.Conv2d(narrow, narrow, 3, padding=1), nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
        )
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, condition: Tensor) -> Tensor:
        """See the class."""
        texture = self.neural_texture_encoder(condition[:, : self.seen])
        inner = silu(self.conv_in(texture * condition[:, self.seen :]))
        for block in self.blocks:
            inner = silu(block(inner))
        return self.conv_out(inner)


class _Texture(nn.Module):
    """What the surface does to light, as read from the picture: twice halved, four residual blocks, twice doubled."""

    def __init__(self, takes: int, makes: int):
        super().__init__()
        a, b, c = 32, 64, 128

        def changed(layer: nn.Module, width: int) -> tuple[nn.Module, ...]:
            return layer, nn.GroupNorm(8, width), nn.SiLU()

        self.model = nn.Sequential(
            nn.Conv2d(takes, a, 3, padding=1), nn.SiLU(),
            *changed(nn.Conv2d(a, b, 3, stride=2, padding=1), b), *changed(nn.Conv2d(b, c, 3, stride=2, padding=1), c),
            *(_Residual(c) for _ in range(4)),
            *changed(nn.ConvTranspose2d(c, b, 4, stride=2, padding=1), b),
            *changed(nn.ConvTranspose2d(b, a, 4, stride=2, padding=1), a),
            nn.Conv2d(a, makes, 3, padding=1),
        )  # fmt: skip

    def forward(self, picture: Tensor) -> Tensor:
        return self.model(picture)


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.conv = nn.Sequential(first, nn.GroupNorm(8, width), nn.SiLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class DiLightNet:
    """See the module."""

    def __init__(self, base: StableDiffusion, controlnet: Any):
        self.words, self.sampling = base.words, Sampling("unipc", 20, 3.0)
        self.denoiser = DiffusersModel(
            base.network, base.schedule, vae=base.vae, controlnet=controlnet, nothing=base.words("")
        )

    @torch.no_grad()
    def relight(
        self,
        picture: Tensor,
        mask: Tensor,
        hints: Tensor,
        prompt: str,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, 3, H, W), clamped, of a picture like it and `maps_of` its mask and hints.  The text says what it is."""
        told = Condition(maps_of(picture, mask, hints), self.words(prompt).to(picture.device))
        shape = (len(picture), self.denoiser.channels, *(n // self.denoiser.factor for n in picture.shape[-2:]))
        latents = sample(
            self.denoiser, sampling or self.sampling, shape, told, without=Condition(told.maps), generator=generator,
            device=picture.device,
        )  # fmt: skip
        return self.denoiser.decode(latents).clamp(-1, 1)


def maps_of(picture: Tensor, mask: Tensor, hints: Tensor) -> Tensor:
    """(B, 16, H, W), 0 to 1, premultiplied: mask 1, picture 3, hints 12 (its README has mask and picture exchanged).

    picture: (B, 3, H, W), -1 to 1.  mask: (B, 1, H, W), 0 to 1.  hints: (B, 12, H, W), 0 to 1 after sRGB, of
    the shape alone with `HINTS` under the target light.  Raises ShapeError.
    """
    size = (len(picture), 12, *picture.shape[-2:])
    if hints.shape != size or mask.shape != (size[0], 1, *size[2:]):
        expected = f"{size} and one channel of mask"
        raise ShapeError.expected("radiance hints", expected, (tuple(hints.shape), tuple(mask.shape)))
    return torch.cat([mask, (picture * 0.5 + 0.5) * mask, hints * mask], 1)


def controlnet_of(settings: dict[str, Any]) -> Any:
    """The ControlNet of diffusers with the embedding of this one, weights by chance."""
    from diffusers import ControlNetModel

    seen, hints = int(settings.get("conditioning_channels", 4)), int(settings.get("shading_hint_channels", 12))
    known = {k: v for k, v in settings.items() if not k.startswith("_") and k != "shading_hint_channels"}
    made: Any = ControlNetModel(**known)
    widths = tuple(made.config.conditioning_embedding_out_channels)
    made.controlnet_cond_embedding = HintedEmbedding(made.config.block_out_channels[0], widths, seen, hints)
    made.register_to_config(conditioning_channels=seen + hints)
    return made


def load(place: Place) -> DiLightNet:
    """Base and ControlNet."""
    with place.reading(place.source):
        controlnet = controlnet_of(place.settings("config.json"))
        controlnet.load_state_dict(place.tensors("diffusion_pytorch_model.safetensors"))
    return DiLightNet(place.stable_diffusion(), controlnet)
