"""Published weights behind our protocol: an unconditional U-Net in the folder layout of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relight.diffusion.public.diffusers_model import DiffusersModel, Schedule
from relight.diffusion.public.place import Place, Published
from relight.diffusion.samplers import Sampling, sample

PUBLISHED = Published(
    "plain_unet", "google/ddpm-church-256", "", None, "makes pictures of churches", "Apache-2.0: check the card"
)
"""Its line of `relight.diffusion.public.MODELS`: the first word is the module that has `load`."""


class PlainUnet:
    """denoiser: for samplers and score distillation.  sampling: as its authors sample it."""

    def __init__(self, network: Any, schedule: Schedule):
        self.denoiser = DiffusersModel(network, schedule)
        self.sampling = Sampling("ddim", 50)

    def pictures(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """(count, C, size, size), -1 to 1."""
        shape = (count, self.denoiser.channels, size, size)
        return sample(self.denoiser, self.sampling, shape, generator=generator)


def load(place: Place) -> PlainUnet:
    """`Place` looks in the folder or the hub's copy, takes .safetensors alone, and words what goes wrong."""
    with place.reading(place.source):
        from diffusers import DDIMScheduler, UNet2DModel
    network = place.part(UNet2DModel, place.source)
    return PlainUnet(network, Schedule.of(place.part(DDIMScheduler, place.source, weights=False)))


def test_a_twin_with_weights_by_chance(tmp_path: Path) -> None:
    import sys
    from types import MappingProxyType
    from unittest.mock import patch

    from diffusers import DDIMScheduler, UNet2DModel

    from relight.diffusion import public
    from relight.errors import DataError
    from relight.testing.denoisers import check_denoiser

    torch.manual_seed(0)
    twin = UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    twin.save_pretrained(tmp_path)
    DDIMScheduler(prediction_type="epsilon").save_pretrained(tmp_path)

    # What a new module in relight/diffusion/public and one line in MODELS do.
    known = MappingProxyType({**public.MODELS, "churches": PUBLISHED})
    sys.modules["relight.diffusion.public.plain_unet"] = sys.modules[__name__]
    with patch.object(public, "MODELS", known):
        model = public.load("churches", str(tmp_path))
        generator = torch.Generator().manual_seed(0)
        check_denoiser(model.denoiser, torch.zeros(2, 3, 8, 8), generator)
        model.sampling = Sampling("ddim", 2)
        first, second = (model.pictures(1, 8, torch.Generator().manual_seed(1)) for _ in range(2))
        assert first.shape == (1, 3, 8, 8) and torch.equal(first, second)
        try:
            public.load("churches", str(tmp_path / "nowhere"))
        except DataError as error:
            assert "hf download google/ddpm-church-256" in str(error)
        else:
            raise AssertionError("weights were found where there are none")
