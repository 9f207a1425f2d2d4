"""What places of one colour have in common: roughness and metallic are found for all of them together.

A highlight passes over few places, and the rest tell nothing of their roughness; but most things are made of a few
materials, each with a colour of its own (as bases of BRDFs are used by Lensch et al., Image-Based Reconstruction of
Spatial Appearance and Geometric Detail, TOG 22(2), 2003).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class SharedMaterials:
    """Logits (K, C) of C material values for K kinds, to which each place adds a difference of its own.

    shares: (N, K), of the kinds in N places; they sum to 1.  start: (N, C) logits, which are taken apart.
    """

    def __init__(self, shares: Tensor, start: Tensor):
        self.shares = shares.detach()
        kinds = (self.shares.mT @ start.detach()) / self.shares.sum(0).clamp_min(1e-6)[:, None]
        self.kinds = kinds.requires_grad_()
        self.adam = torch.optim.Adam([self.kinds], lr=0.0)

    def __call__(self) -> Tensor:
        """(N, C) logits without the places' differences; differentiable in `kinds`."""
        return self.shares @ self.kinds

    def set_rate(self, rate: float) -> None:
        self.adam.param_groups[0]["lr"] = rate

    def step(self) -> None:
        self.adam.step()
        self.adam.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs."""
        moments = {f"shared.adam.{k}": v for k, v in self.adam.state.get(self.kinds, {}).items()}
        return {"shared.shares": self.shares, "shared.kinds": self.kinds.detach(), **moments}

    @staticmethod
    def restored(saved: Mapping[str, Tensor]) -> SharedMaterials:
        """Inverse of `state`."""
        shares, kinds = saved["shared.shares"], saved["shared.kinds"]
        found = SharedMaterials(shares, kinds.new_zeros(len(shares), kinds.shape[1]))
        with torch.no_grad():
            found.kinds.copy_(kinds)
        prefix = "shared.adam."
        if state := {k.removeprefix(prefix): v.clone() for k, v in saved.items() if k.startswith(prefix)}:
            found.adam.state[found.kinds] = state
        return found
