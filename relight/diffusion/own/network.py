"""The network of our own priors: a U-Net of diffusers over patches, and a shallow path at full resolution for edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad, pixel_unshuffle

from relight.errors import RelightError


class PriorError(RelightError):
    """Weights that are missing, damaged or of something else; words or sizes that a prior doesn't know."""


@dataclass(frozen=True)
class Config:
    """task: what it was trained for; see `relight.diffusion.own.tasks`.  channels: of pictures it makes.  maps:
    channels of `Condition.maps`.  words: what `Condition.tokens` can be made of.  size: (H, W) trained at; others that
    the U-Net can halve are taken too.  patch: pixels a side that the U-Net sees as one.  widths: of its levels.
    detail: channels at full resolution.  around: pictures that meet themselves at left and right (panoramas).
    """

    task: str
    channels: int
    maps: int
    words: tuple[str, ...] = ()
    size: tuple[int, int] = (64, 64)
    patch: int = 4
    widths: tuple[int, ...] = (96, 128, 128)
    detail: int = 24
    token: int = 64
    around: bool = False

    @staticmethod
    def of(values: Mapping[str, Any]) -> Config:
        """From JSON values.  Raises PriorError."""
        unknown = sorted(set(values) - {f.name for f in fields(Config)})
        if unknown:
            raise PriorError(f"prior: made by a newer relight, which says {', '.join(unknown)}; update relight")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Config(**plain)

    @property
    def json(self) -> dict[str, Any]:
        """Inverse of `of`."""
        return asdict(self)


class Network(nn.Module):
    """(noisy, t, step, maps, tokens) to the clean picture expected.

    It says the picture and not the velocity: pictures lie near a surface of few dimensions and fit through narrow
    layers, noise does not (Li and He, arXiv 2511.13720).
    """

    def __init__(self, config: Config):
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.config = config
        area, deep = config.patch**2, len(config.widths) - 1
        self.unet = UNet2DConditionModel(
            sample_size=(config.size[0] // config.patch, config.size[1] // config.patch),
            in_channels=(config.channels + config.maps) * area,
            out_channels=config.detail * area,
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deep),
            up_block_types=(*["CrossAttnUpBlock2D"] * deep, "UpBlock2D"),
            block_out_channels=config.widths,
            layers_per_block=1,
            cross_attention_dim=config.token,
            attention_head_dim=16,
            norm_num_groups=16,
            time_cond_proj_dim=config.token,
        )
        self.stem = nn.Conv2d(config.channels + config.maps, config.detail, 3, padding=1)
        self.join = nn.Conv2d(2 * config.detail, config.detail, 3, padding=1)
        self.last = nn.Conv2d(config.detail, config.channels, 3, padding=1)
        self.vocabulary = nn.Parameter(0.2 * torch.randn(len(config.words) + 1, config.token))
        """Row 0 says that nothing is said."""
        if config.around:
            for module in self.modules():
                if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
                    _around(module)

    def tokens(self, words: Tensor) -> Tensor:
        """(B, L, D) of (B, L) indices into the config's words; -1 for none."""
        return embedding(words.long() + 1, self.vocabulary)

    def forward(self, noisy: Tensor, t: Tensor, step: Tensor, maps: Tensor | None, tokens: Tensor | None) -> Tensor:
        """noisy: (B, channels, H, W).  t, step: (B,), 0 to 1: the time, and how far the caller will go in one straight
        step from it (0: only the velocity at t is asked for).  maps, tokens: as of `Condition`.
        """
        if maps is None:
            maps = noisy.new_zeros(len(noisy), self.config.maps, *noisy.shape[2:])
        if tokens is None:
            tokens = self.vocabulary[:1].expand(len(noisy), 1, -1)
        x = torch.cat([noisy, maps], 1)
        # Attention finds where a word belongs; colours and finishes belong everywhere, and go along with the time.
        said = (tokens - self.vocabulary[0]).sum(1)
        stride = _waves(step, self.config.token) + said
        coarse = self.unet(
            pixel_unshuffle(x, self.config.patch), t * 1000, tokens, timestep_cond=stride.to(x.dtype)
        ).sample
        wide = torch.nn.functional.pixel_shuffle(coarse, self.config.patch)
        silu = torch.nn.functional.silu
        return self.last(silu(self.join(silu(torch.cat([wide, self.stem(x)], 1)))))


def _waves(values: Tensor, width: int) -> Tensor:
    """(B, width) sines and cosines of (B,) values of 0 to 1, all 0 for 0 but the cosines (Vaswani et al. 2017)."""
    rates = torch.exp2(torch.arange(width // 2, device=values.device) * (10 / (width // 2)))
    angle = values[:, None].float() * rates
    return torch.cat([angle.sin(), angle.cos()], 1)


def _around(conv: nn.Conv2d) -> None:
    """Pads left from right and right from left."""
    up, side = conv.padding  # type: ignore[misc]
    conv.padding = (up, 0)  # type: ignore[assignment]
    forward = conv.forward
    conv.forward = lambda x: forward(pad(x, (side, side, 0, 0), mode="circular"))  # type: ignore[method-assign]


def parameters(config: Config) -> int:
    """How many numbers a network of this configuration has."""
    return sum(p.numel() for p in Network(config).parameters())


def indices(words: Sequence[str], known: Sequence[str]) -> list[int]:
    """Of words in a vocabulary.  Raises PriorError, with the vocabulary."""
    missing = [w for w in words if w not in known]
    if missing:
        raise PriorError(
            f"prior: doesn't know {', '.join(map(repr, missing))}; it knows {', '.join(known) or 'no words'}"
        )
    return [known.index(w) for w in words]
