"""Consistent light attention: frames of a film look at what all of them show on average.

Light-A-Video (Zhou et al., ICCV 2025): out = (1 - g) Attn(Q, K, V) + g Attn(Q, mean K, mean V), means over frames, in
the self-attention of the upper half of a U-Net that relights single pictures.  No training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from relight.errors import RelightError


class ConsistentAttention:
    """A processor of `diffusers.models.attention_processor.Attention` around the one that is there.

    gamma: share of the attention to others.  weights: (F, F), of frame s in what frame t looks at, rows of sum 1; None
    for the mean.  One column of ones is attention to one frame (cross-frame attention).
    """

    def __init__(self, inner: Any, gamma: float, weights: Tensor | None = None):
        self.inner, self.gamma, self.weights = inner, gamma, weights

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """hidden_states: (F, N, C), a batch that is one film.  Cross-attention is left as it is."""
        own = self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        if encoder_hidden_states is not None:
            return own
        # Keys and values are linear in what they are made of, so its mean gives theirs.
        if self.weights is None:
            others = hidden_states.mean(0, keepdim=True).expand_as(hidden_states)
        else:
            others = torch.einsum("ts,snc->tnc", self.weights.to(hidden_states), hidden_states)
        return torch.lerp(own, self.inner(attn, hidden_states, others, *args, **kwargs), self.gamma)


@contextmanager
def consistent(network: nn.Module | None, gamma: float, weights: Tensor | None = None) -> Iterator[int]:
    """While open, frames in the network's batch share attention; how many layers do.  See `ConsistentAttention`.

    network: holds a U-Net of diffusers; its upper blocks but the last are meant, as in the paper.  None or gamma 0:
    nothing happens.  Raises RelightError for gamma outside 0 to 1, or a network without such layers.
    """
    if not 0 <= gamma <= 1:
        raise RelightError(f"consistent attention: share {gamma:g}; expected 0 to 1")
    layers = [] if network is None or gamma == 0 else shared_layers(network)
    if not layers and network is not None and gamma:
        raise RelightError(
            f"consistent attention: {type(network).__name__} has no self-attention in its upper blocks; "
            "set its share to 0"
        )
    before = [layer.processor for layer in layers]
    try:
        for layer, inner in zip(layers, before, strict=True):
            layer.set_processor(ConsistentAttention(inner, gamma, weights))
        yield len(layers)
    finally:
        for layer, inner in zip(layers, before, strict=True):
            layer.set_processor(inner)


def shared_layers(network: nn.Module) -> list[Any]:
    """Self-attention of all upper blocks but the last; of that, too, if only it has any."""
    parts = [part for name, part in network.named_modules() if name.split(".")[-1] == "up_blocks"]
    blocks = [block for part in parts if isinstance(part, nn.ModuleList) for block in part[:-1]]
    return _attention(blocks) or _attention(parts)


def _attention(modules: Sequence[nn.Module]) -> list[Any]:
    return [layer for module in modules for name, layer in module.named_modules() if name.split(".")[-1] == "attn1"]
