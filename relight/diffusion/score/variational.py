"""A twin of a model that learns, while pictures are fitted, what these pictures are like: what VSD compares a prior to.

It begins as the prior and is trained by the plain denoising loss on the fit's own renders (ProlificDreamer,
arXiv 2305.16213; the fake score network of DMD, arXiv 2311.18828).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from relight.diffusion.protocol import NOTHING, Condition, Denoiser, noised
from relight.diffusion.score.options import ScoreOptions
from relight.errors import DataError, RelightError

ADAPTER = "relight_twin"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
"""Layers of diffusers' attention, which adapters go into."""
SMALL = 50_000_000
"""Parameters up to which a copy is cheap, and learns better than adapters."""
MOST_WEIGHT = 5.0
"""Of squared errors of clean pictures; (a / s)^2 makes errors of noise of them, and is huge for little noise
(min-SNR, arXiv 2303.09556)."""


class Twin(Denoiser):
    """An online model.  parameters: by name, all that is trained."""

    parameters: dict[str, nn.Parameter]

    def __init__(self, prior: Denoiser, parameters: dict[str, nn.Parameter], rate: float):
        self.prior, self.channels, self.parameters = prior, prior.channels, parameters
        self.optimiser = torch.optim.AdamW(parameters.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.prior.rates(t)

    def denoising_loss(
        self, picture: Tensor, noise: Tensor, t: Tensor, condition: Condition = NOTHING, mask: Tensor | None = None
    ) -> Tensor:
        """Scalar: mean squared error of what is expected behind noise, as an error of noise where there is much of it.

        picture, noise: (B, C, H, W).  mask: (B or 1, 1, H, W), 0 to 1.
        """
        a, s = self.rates(t)
        weight = (a / s).square().clamp_max(MOST_WEIGHT).view(-1, 1, 1, 1)
        error = (self.clean(noised(self, picture, noise, t), t, condition) - picture).square() * weight
        if mask is None:
            return error.mean()
        mask = mask.expand(len(picture), 1, *picture.shape[2:])
        return (error * mask).sum() / (mask.sum() * self.channels).clamp_min(1e-6)

    def learn(
        self, picture: Tensor, noise: Tensor, t: Tensor, condition: Condition = NOTHING, mask: Tensor | None = None
    ) -> float:
        """One step on pictures as they are now; the loss before it."""
        with torch.enable_grad(), self.trained():
            loss = self.denoising_loss(picture.detach(), noise, t, condition, mask)
            gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
            for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
                parameter.grad = gradient
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    @contextmanager
    def trained(self) -> Iterator[None]:
        """Within, what the twin is made of is the twin, so that gradients find its parameters."""
        yield

    def state(self) -> dict[str, Tensor]:
        """Copies of the parameters and of the optimiser's moments, by name: for a checkpoint."""
        found = {f"parameter.{name}": p.detach().clone() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                found[f"{key}.{name}"] = torch.as_tensor(value).clone()
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a twin of the same model.  Raises DataError if it is of another, changing nothing."""
        for name, parameter in self.parameters.items():
            found = state.get(f"parameter.{name}")
            if found is None or found.shape != parameter.shape:
                what = "nothing" if found is None else f"shape {tuple(found.shape)}"
                raise DataError(
                    f"state of the online model: {name}: expected shape {tuple(parameter.shape)}, found {what}; "
                    "it is of another model or other options (twin, rank); start the stage anew"
                )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[f"parameter.{name}"])
        self.optimiser.state.clear()
        for name, parameter in self.parameters.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            if all(f"{key}.{name}" in state for key in keys):
                moments = {key: state[f"{key}.{name}"].clone() for key in keys}
                # AdamW keeps its count of steps on the CPU.
                self.optimiser.state[parameter] = {
                    key: value.cpu() if key == "step" else value.to(parameter) for key, value in moments.items()
                }


class CopiedTwin(Twin):
    """A whole second model; for networks small enough that this is cheap."""

    def __init__(self, prior: Denoiser, rate: float):
        twin = copy.deepcopy(prior)
        parameters = {
            name: parameter
            for prefix, network in networks(twin).items()
            for name, parameter in network.named_parameters(prefix)
            if parameter.is_floating_point()
        }
        if not parameters:
            raise RelightError(
                f"{type(prior).__name__}: VSD trains a copy of the model, which has no parameters; expected it to be, "
                "or to have as attributes, torch.nn.Module; use a guidance that needs no online model, such as x0"
            )
        for parameter in parameters.values():
            parameter.requires_grad_()
        self.copy = twin
        super().__init__(prior, parameters, rate)

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        return self.copy.clean(noisy, t, condition)


class LoraTwin(Twin):
    """Adapters of low rank in the prior's own network, off but for the twin's calls (LoRA, arXiv 2106.09685).

    The prior stays what it was: the last layer of an adapter begins as 0, and it is switched off outside.
    """

    def __init__(self, prior: Denoiser, rate: float, rank: int, generator: torch.Generator):
        from peft import LoraConfig

        network = adaptable(prior)
        if network is None:
            raise RelightError(
                f"{type(prior).__name__}: twin: lora needs a network of diffusers that takes adapters, "
                "found none among its attributes; use `twin: copy`"
            )
        adapters = getattr(network, "peft_config", {})
        if ADAPTER in adapters:  # of an earlier fit
            network.delete_adapters(ADAPTER)
        if others := sorted(set(adapters) - {ADAPTER}):
            raise RelightError(
                f"{type(prior).__name__}: twin: the network has adapters already ({', '.join(others)}), which would be "
                "switched off with the twin's; fuse them into the weights first, or use `twin: copy`"
            )
        if not any(name.endswith(tuple(ATTENTION)) for name, _ in network.named_modules()):
            raise RelightError(
                f"{type(prior).__name__}: twin: the network has no attention for adapters; use `twin: copy`"
            )
        config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights=True, target_modules=ATTENTION)
        network.add_adapter(config, adapter_name=ADAPTER)
        self.network = network
        parameters = {name: p for name, p in network.named_parameters() if f".{ADAPTER}." in name}
        with torch.no_grad():
            for name, parameter in parameters.items():
                if ".lora_A." in name:  # peft draws them by torch's global generator
                    drawn = torch.rand(parameter.shape, generator=generator, device=generator.device) * 2 - 1
                    parameter.copy_(drawn / math.sqrt(parameter.shape[1]))
        super().__init__(prior, parameters, rate)
        network.disable_adapters()

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        with self.trained():
            return self.prior.clean(noisy, t, condition)

    @contextmanager
    def trained(self) -> Iterator[None]:
        if getattr(self, "_on", False):  # within another
            yield
            return
        self._on = True
        self.network.enable_adapters()
        try:
            yield
        finally:
            self.network.disable_adapters()
            self._on = False


def twin_of(prior: Denoiser, options: ScoreOptions, generator: torch.Generator) -> Twin:
    """The twin that the options ask for.  generator: adapters begin at random.

    Raises RelightError if the model can't have one.
    """
    kind = options.twin
    if kind == "auto":
        network = adaptable(prior)
        kind = "copy" if network is None or sum(p.numel() for p in network.parameters()) < SMALL else "lora"
    if kind == "copy":
        return CopiedTwin(prior, options.twin_rate)
    return LoraTwin(prior, options.twin_rate, options.rank, generator)


def networks(model: Denoiser) -> dict[str, nn.Module]:
    """What a model is made of, by attribute, through models that wrap others; itself under "" if it is a module."""
    if isinstance(model, nn.Module):
        return {"": model}
    found: dict[str, nn.Module] = {}
    for name, value in vars(model).items():
        if isinstance(value, nn.Module):
            found[name] = value
        elif isinstance(value, Denoiser):
            found |= {f"{name}.{inner}".rstrip("."): network for inner, network in networks(value).items()}
    return found


def adaptable(model: Denoiser) -> Any:
    """The network of diffusers in a model that takes adapters (its PeftAdapterMixin), or None; the largest of several,
    which is the one that a ControlNet controls."""
    modules = [m for network in networks(model).values() for m in (network, *network.children())]
    able = [m for m in modules if hasattr(m, "add_adapter") and hasattr(m, "disable_adapters")]
    return max(able, key=lambda m: sum(p.numel() for p in m.parameters()), default=None)
