"""What the teachers share: weights from packages and pictures as networks want them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from relight.errors import BackendUnavailableError, DataError


def load_weights(network: nn.Module, path: Path) -> None:
    """Tensors of a .pth file into a network, all of them, and nothing but tensors.  Raises DataError."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path}: not the weights of {type(network).__name__} ({error}); install its package anew"
        ) from error
    network.eval().requires_grad_(False)


def missing(name: str, package: str, extra: str = "features") -> BackendUnavailableError:
    """The error for a teacher whose package isn't there."""
    return BackendUnavailableError(f"teacher {name}: needs {package}; pip install 'relight[{extra}]' installs it")


def planes(rgb: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """(1, 3, H, W) of an (H, W, 3) picture, standardised."""
    picture = (rgb - rgb.new_tensor(mean)) / rgb.new_tensor(deviation)
    return picture.permute(2, 0, 1)[None].contiguous()


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """(1, C, height, width), bilinear."""
    if tuple(picture.shape[-2:]) == (height, width):
        return picture
    return interpolate(picture, (height, width), mode="bilinear", align_corners=False)


def joined(levels: list[Tensor]) -> Tensor:
    """(h, w, C1 + C2 + ...) of (1, Ci, hi, wi) maps at the size of the first; each level's vectors of length 1."""
    height, width = levels[0].shape[-2:]
    return torch.cat([normalize(resized(level, height, width), dim=1) for level in levels], 1)[0].permute(1, 2, 0)
