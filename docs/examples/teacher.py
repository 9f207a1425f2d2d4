"""A teacher without a network: the mean colour of a place and how much it varies there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


class Colours:
    """`FeatureExtractor`: two levels, colour and contrast, of each square of 8 x 8 pixels."""

    name = "colours-8"
    levels = (3, 3)

    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`."""
        planes = rgb.permute(2, 0, 1)[None]
        mean = avg_pool2d(planes, 8, ceil_mode=True)
        spread = (avg_pool2d(planes**2, 8, ceil_mode=True) - mean**2).clamp_min(0).sqrt()
        return torch.cat([mean - 0.5, spread], 1)[0].permute(1, 2, 0)


def test_like_places_have_like_vectors() -> None:
    from torch.nn.functional import cosine_similarity

    from relight.fit.teachers import FeatureExtractor, create

    teacher = create(
        f"{__name__}:Colours"
    )  # as a scene file says it: features: {teacher: "my_package.teacher:Colours"}
    assert isinstance(teacher, FeatureExtractor)
    picture = torch.zeros(32, 40, 3)
    picture[:, 16:] = torch.tensor([0.9, 0.2, 0.1])
    values = teacher(picture)
    assert values.shape == (4, 5, sum(teacher.levels))
    like, unlike = (cosine_similarity(values[0, 3], values[k], dim=0) for k in ((2, 4), (2, 0)))
    assert like > 0.99 > unlike
