"""What places of one colour or thing have in common: roughness and metallic are found for all of them together.

A highlight passes over few places, and the rest tell nothing of their roughness; but most things are made of a few
materials, each with a colour of its own (as bases of BRDFs are used by Lensch et al., Image-Based Reconstruction of
Spatial Appearance and Geometric Detail, TOG 22(2), 2003).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from relight.fit.graph import Surface, build, evident, nearest
from relight.fit.hierarchy import merged
from relight.fit.moments import moments, restore_moments

PART = 0.02
"""Share of the surface that is seen, of which a segment has a material of its own."""


def segments(surface: Surface) -> Tensor:
    """(N, S) 1 for the one of S parts that each Gaussian belongs to: what persists as things do (see `Hierarchy`), cut
    by look, features if there are some, and shape; what is in none, or not seen, is of the nearest."""
    of = merged(build(surface)[0], evident(surface.seen), least=PART).partition()
    known, lost = (of >= 0).nonzero().squeeze(1), (of < 0).nonzero().squeeze(1)
    if not len(known):
        return torch.ones(len(of), 1)
    of[lost] = of[known[nearest(surface.position[known], surface.position[lost])]]
    return torch.nn.functional.one_hot(of).float()


class SharedMaterials:
    """Logits of material values for K kinds, to which each place adds a difference of its own.

    shares: (N, K), of the kinds in N places; they sum to 1.  start: logits (K,) by name of the value.
    """

    def __init__(self, shares: Tensor, start: Mapping[str, Tensor]):
        self.shares = shares.detach()
        self.kinds = {name: logits.detach().clone().requires_grad_() for name, logits in start.items()}
        self.adam = torch.optim.Adam([{"params": [t], "lr": 0.0, "name": k} for k, t in self.kinds.items()])

    def logits(self) -> dict[str, Tensor]:
        """(N,) of the places, without their differences; differentiable."""
        return {name: self.shares @ kinds for name, kinds in self.kinds.items()}

    def set(self, name: str, logits: Tensor) -> None:
        """Begin anew at (K,) logits."""
        kinds = self.kinds[name]
        with torch.no_grad():
            kinds.copy_(logits)
        self.adam.state.pop(kinds, None)

    def set_rate(self, name: str, rate: float) -> None:
        next(g for g in self.adam.param_groups if g["name"] == name)["lr"] = rate

    def step(self) -> None:
        self.adam.step()
        self.adam.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs."""
        out = {"shared.shares": self.shares}
        for name, kinds in self.kinds.items():
            out[f"shared.kinds.{name}"] = kinds.detach()
            out |= moments(self.adam, kinds, f"shared.adam.{name}.{{}}")
        return out

    @staticmethod
    def restored(saved: Mapping[str, Tensor]) -> SharedMaterials | None:
        """Inverse of `state`; None if there is none."""
        if "shared.shares" not in saved:
            return None
        start = {k.split(".")[2]: v for k, v in saved.items() if k.startswith("shared.kinds.")}
        found = SharedMaterials(saved["shared.shares"], start)
        for name, kinds in found.kinds.items():
            restore_moments(found.adam, kinds, saved, f"shared.adam.{name}.{{}}")
        return found
