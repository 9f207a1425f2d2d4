"""Per-Gaussian parameters under Adam, whose number changes while they are optimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from relight.fit.moments import moments, restore_moments


class Parameters:
    """Named leaf tensors (N, ...) with their Adam moments; rows are kept, copied or dropped together.

    Any name may be added (materials, features): growing and pruning carry it along.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], rates: Mapping[str, float], betas: tuple[float, float] = (0.9, 0.999)
    ):
        self.tensors = {k: t.detach().clone().contiguous().requires_grad_() for k, t in tensors.items()}
        groups = [{"params": [t], "lr": rates[k], "name": k} for k, t in self.tensors.items()]
        self.adam = torch.optim.Adam(groups, betas=betas, eps=1e-15, fused=True)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def gradients(self) -> list[Tensor]:
        """Of all parameters; zeros where nothing depended on one."""
        for tensor in self.tensors.values():
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
        return [tensor.grad for tensor in self.tensors.values() if tensor.grad is not None]

    def set_rate(self, name: str, rate: float) -> None:
        next(g for g in self.adam.param_groups if g["name"] == name)["lr"] = rate

    def step(self) -> None:
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def replace_rows(self, rows: Tensor, fresh: Tensor, change: Mapping[str, Tensor] | None = None) -> None:
        """New row i is a copy of row rows[i]; where fresh[i], its moments start at zero.

        change: whole new values (M, ...) for some names, after the copy.
        """
        self._rebuild(lambda name, t: change[name] if change and name in change else t.detach()[rows], rows, fresh)

    def forget(self, name: str) -> None:
        """Zero the moments of one parameter: it was set by hand."""
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in self.adam.state.get(self.tensors[name], {}):
                self.adam.state[self.tensors[name]][moment].zero_()

    def _rebuild(self, value: Callable[[str, Tensor], Tensor], rows: Tensor, fresh: Tensor) -> None:
        for group in self.adam.param_groups:
            name = group["name"]
            old = self.tensors[name]
            state = self.adam.state.pop(old, {})
            new = value(name, old).contiguous().requires_grad_()
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in state:
                    state[moment] = state[moment][rows]
                    state[moment][fresh] = 0
            self.tensors[name] = new
            group["params"] = [new]
            if state:
                self.adam.state[new] = state

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs."""
        out = {}
        for name, tensor in self.tensors.items():
            out[f"parameter.{name}"] = tensor.detach()
            out |= moments(self.adam, tensor, f"adam.{{}}.{name}")
        return out

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        for group in self.adam.param_groups:
            name = group["name"]
            old = self.tensors[name]
            self.adam.state.pop(old, None)
            tensor = saved[f"parameter.{name}"].to(old.device, copy=True).requires_grad_()
            self.tensors[name] = tensor
            group["params"] = [tensor]
            restore_moments(self.adam, tensor, saved, f"adam.{{}}.{name}")
