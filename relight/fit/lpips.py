"""Learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1, from weights on disk.

    # Once, where lpips and torchvision are at hand:
    weights = lpips.LPIPS(net="vgg").state_dict()
    safetensors.torch.save_file({name: value.clone() for name, value in weights.items()}, "lpips_vgg.safetensors")

The weights are not ours to ship.  Their names may be those of `lpips.LPIPS` or of torchvision's network together with
lpips's linear layers; which network it is shows in their shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, relu

from relight.errors import DataError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for pictures in -1 to 1."""
VGG16 = "C0 C2* P C5 C7* P C10 C12 C14* P C17 C19 C21* P C24 C26 C28*"
ALEXNET = "C0/4/2* P C3/1/2* P C6/1/1* C8/1/1* C10/1/1*"
"""Convolutions with their number in torchvision's `features`, and stride and padding unless 1 and 1; a ReLU follows
each, whose output counts where there is a star.  P: the largest of 2x2 (VGG16) or 3x3 (AlexNet), every second pixel.
"""
_CONVOLUTION = re.compile(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)")
_LINEAR = re.compile(r"lin(?:s\.)?(\d)\.model\.1\.weight")


@dataclass(frozen=True)
class Lpips:
    """name: of the network.  convolutions: (O, I, K, K) weights and (O,) biases by number.  linear: (O,) weights, 0 or
    more, of each of the five stages.
    """

    name: str
    convolutions: Mapping[int, tuple[Tensor, Tensor]]
    linear: tuple[Tensor, ...]

    def __call__(self, x: Tensor, y: Tensor) -> float:
        """Distance of two (3, H, W) sRGB-encoded pictures in 0 to 1; 0 for equal ones.  At least 32 x 32 pixels."""
        with torch.no_grad():
            total = 0.0
            for a, b, weight in zip(self.features(x), self.features(y), self.linear, strict=True):
                difference = (_unit(a) - _unit(b)).square()
                total += float((difference * weight[:, None, None]).sum(0).mean())
            return total

    def features(self, picture: Tensor) -> list[Tensor]:
        """(C, h, w) of the five stages."""
        shift, scale = (torch.tensor(v)[:, None, None] for v in (SHIFT, SCALE))
        x, out = ((2 * picture - 1 - shift) / scale)[None], []
        window = 2 if self.name == "VGG16" else 3
        for word in (VGG16 if self.name == "VGG16" else ALEXNET).split():
            if word == "P":
                x = max_pool2d(x, window, 2)
                continue
            number, stride, padding = (*map(int, word.strip("C*").split("/")), 1, 1)[:3]
            x = relu(conv2d(x, *self.convolutions[number], stride=stride, padding=padding))
            if word.endswith("*"):
                out.append(x[0])
        return out


def from_tensors(tensors: Mapping[str, Tensor], where: str) -> Lpips:
    """Weights by name; others than LPIPS's are left out.  where: for messages.  Raises DataError."""
    convolutions: dict[int, dict[str, Tensor]] = {}
    linear = {}
    for name, value in tensors.items():
        if found := _CONVOLUTION.fullmatch(name):
            convolutions.setdefault(int(found[1]), {})[found[2]] = value.float()
        elif found := _LINEAR.fullmatch(name):
            linear[int(found[1])] = value.float().flatten()
    first = convolutions.get(0, {}).get("weight", torch.empty(0))
    kinds = {(64, 3, 3, 3): ("VGG16", VGG16), (64, 3, 11, 11): ("AlexNet", ALEXNET)}
    name, layers = next((kind for shape, kind in kinds.items() if first.shape == shape), ("", ""))
    numbers = [int(n) for n in re.findall(r"C(\d+)", layers)]
    missing = [n for n in numbers if set(convolutions.get(n, ())) != {"weight", "bias"}]
    if not name or missing or sorted(linear) != list(range(5)):
        raise DataError(
            f"{where}: not weights of LPIPS; expected features.N.weight and .bias of VGG16 or AlexNet and linN.model.1."
            f"weight for N from 0 to 4; see relight.fit.lpips"
        )
    return Lpips(
        name, {n: (convolutions[n]["weight"], convolutions[n]["bias"]) for n in numbers},
        tuple(linear[i] for i in range(5)),
    )  # fmt: skip


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(0, keepdim=True).sqrt() + 1e-10)
