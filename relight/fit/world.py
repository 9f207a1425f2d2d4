"""Processes that fit one scene together: each has all Gaussians, and looks at another photograph in the same step.

Sums are the same bits in every process, so that whatever follows from them (steps, density control) is too, and
nothing else is ever sent.  Step sizes follow Grendel-GS (Zhao et al., ICLR 2025, section 4.3): with a batch of B
photographs, rates grow by the square root of B and Adam's betas are raised to the power of B.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor


class World:
    """One process of `size`, the `rank`-th; alone unless made by `joined`."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Each becomes, in place, the sum over all processes, which must call this with the same shapes."""
        if self.size == 1:
            return
        whole = torch.cat([t.detach().reshape(-1) for t in tensors])
        torch.distributed.all_reduce(whole)
        with torch.no_grad():
            for tensor, part in zip(tensors, whole.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))


ALONE = World()


@contextmanager
def joined(rank: int, size: int, device: torch.device, store: Path, patience: float = 300.0) -> Iterator[World]:
    """Until the end of the block a member of the group that meets at the file `store`: NCCL on CUDA, else Gloo.

    patience: seconds to wait for others, at the start and in each sum.
    """
    if os.path.exists("/sys/class/net/lo"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # of one machine: nothing leaves it
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", init_method=f"file://{store}", rank=rank, world_size=size,
        timeout=timedelta(seconds=patience),
    )  # fmt: skip
    try:
        yield World(rank, size)
    finally:
        torch.distributed.destroy_process_group()
