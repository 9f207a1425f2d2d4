"""What Adam keeps of a tensor, in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

PARTS = ("step", "exp_avg", "exp_avg_sq")


def moments(adam: torch.optim.Adam, tensor: Tensor, name: str) -> dict[str, Tensor]:
    """Everything a checkpoint needs to go on with this parameter.  name: `{}` in it stands for one of PARTS."""
    return {name.format(part): value for part, value in adam.state.get(tensor, {}).items()}


def restore_moments(adam: torch.optim.Adam, tensor: Tensor, saved: Mapping[str, Tensor], name: str) -> None:
    """Inverse of `moments`, copied to where the parameter is; where nothing was saved, Adam begins anew."""
    adam.state.pop(tensor, None)
    found = {part: saved[key] for part in PARTS if (key := name.format(part)) in saved}
    if found:
        # Adam counts steps on the CPU, unless it is fused with what it does there.
        device = tensor.device if adam.defaults.get("fused") else torch.device("cpu")
        adam.state[tensor] = {
            part: value.to(device if part == "step" else tensor.device, copy=True) for part, value in found.items()
        }
