"""What a picture should not show, for models of one step, which have no guidance to say it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from relight.errors import RelightError


@contextmanager
def negative_attention(network: Any, tokens: Tensor, scale: float) -> Iterator[None]:
    """Within the block, each cross-attention of a U-Net of diffusers gives Z+ - scale Z-: of what it is told less of
    `tokens` (B or 1, L, D), what is not wanted.

    NASA of SNOOPI (Nguyen et al., arXiv 2412.02687).  scale: 0 changes nothing.  The difference is taken before the
    layer's output projection.  Raises RelightError for a network that attends to nothing.
    """
    before = network.attn_processors
    crossing = [name for name in before if name.endswith("attn2.processor")]
    if not crossing:
        raise RelightError("negative attention: the network has no cross-attention; it can't be told what not to show")
    network.set_attn_processor({n: _Negative(p, tokens, scale) if n in crossing else p for n, p in before.items()})
    try:
        yield
    finally:
        network.set_attn_processor(dict(before))


class _Negative:
    """An attention processor round another, which it asks twice."""

    def __init__(self, processor: Any, tokens: Tensor, scale: float):
        self.processor, self.tokens, self.scale = processor, tokens, scale

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        wanted = self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        tokens = self.tokens.to(hidden_states).expand(len(hidden_states), -1, -1)
        unwanted = self.processor(attn, hidden_states, tokens, None, *args, **kwargs)
        # Both have been projected; what projection adds to each, once more than to their difference, is given back.
        bias = attn.to_out[0].bias
        added = 0.0 if bias is None else bias / attn.rescale_output_factor
        if attn.residual_connection:
            added = added + hidden_states / attn.rescale_output_factor
        return wanted - self.scale * (unwanted - added)
