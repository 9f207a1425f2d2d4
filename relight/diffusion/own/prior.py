"""Priors of our own: small flow-matching networks that come with the package, one file a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from relight.diffusion.own import kept
from relight.diffusion.own.network import Config, Network, PriorError, indices
from relight.diffusion.protocol import NOTHING, Condition


class Prior:
    """A `Denoiser` by rectified flow: x_t = (1 - t) x + t noise (Liu et al., arXiv 2209.03003).

    info: what its file says of how it was made and what it reached.
    """

    def __init__(self, network: Network, info: Mapping[str, str] | None = None):
        self.network = network.eval().requires_grad_(False)
        self.config, self.info = network.config, dict(info or {})
        self.channels = network.config.channels

    @staticmethod
    def load(source: str | Path, device: str | torch.device = "cpu") -> Prior:
        """By the name of one that comes with the package (`kept.bundled`), or a file that `save` or training wrote.

        Raises PriorError.
        """
        network, info = kept.read(source, "config", "prior", lambda values: Network(Config.of(values)))
        return Prior(network.to(device), info)

    def save(self, path: Path) -> None:
        """In half precision, with what it is."""
        kept.write(path, self.network, "config", self.config.json, self.info)

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.network.vocabulary.device

    def tokens(self, words: Sequence[str], count: int = 1) -> Tensor:
        """(count, L, D) for `Condition.tokens`.  Raises PriorError for words outside `config.words`."""
        found = torch.tensor([indices(words, self.config.words)], device=self.device)
        return self.network.tokens(found).expand(count, -1, -1)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Denoiser.rates`."""
        return 1 - t, t

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """See `Denoiser.clean`.  Sides that the network can't halve are filled up and cut off again."""
        return self._asked(noisy, t, torch.zeros_like(t), condition)

    def clean_until(self, noisy: Tensor, t: Tensor, until: Tensor, condition: Condition = NOTHING) -> Tensor:
        """What a straight step from t to an earlier time should aim at: see `samplers.FlowMap`."""
        return self._asked(noisy, t, t - until, condition)

    @torch.no_grad()
    def expected(self, condition: Condition, shape: tuple[int, int, int]) -> Tensor:
        """(B, channels, H, W), -1 to 1: the mean of what `sample` might give, by one call; blurred where they differ.

        The least squared error that one answer can have; a sample looks more like the real thing.  The network is shown
        no noise at all in place of pure noise, which tells as little and disturbs less.
        """
        blank = torch.zeros(shape[0], self.channels, *shape[1:], device=self.device)
        return self.clean(blank, torch.ones(shape[0], device=self.device), condition).clamp(-1, 1)

    def _asked(self, noisy: Tensor, t: Tensor, step: Tensor, condition: Condition) -> Tensor:
        self._check(noisy, condition)
        unit = self.config.patch * 2 ** (len(self.config.widths) - 1)
        height, width = noisy.shape[2:]
        fill = (0, -width % unit, 0, -height % unit)

        def filled(picture: Tensor | None) -> Tensor | None:
            return picture if picture is None or not any(fill) else torch.nn.functional.pad(picture, fill, "replicate")

        whole = filled(noisy)
        assert whole is not None
        out = self.network(whole, t, step, filled(condition.maps), condition.tokens)
        return out[..., :height, :width]

    def _check(self, noisy: Tensor, condition: Condition) -> None:
        if noisy.ndim != 4 or noisy.shape[1] != self.channels:
            raise PriorError(f"prior: expected pictures (B, {self.channels}, H, W), found {tuple(noisy.shape)}")
        maps = condition.maps
        expected = (len(noisy), self.config.maps, *noisy.shape[2:])
        if maps is not None and tuple(maps.shape) != expected:
            raise PriorError(f"prior: expected maps {expected}, found {tuple(maps.shape)}")

    @torch.no_grad()
    def sample(
        self,
        condition: Condition,
        shape: tuple[int, int, int],
        *,
        steps: int = 4,
        scale: float = 1.0,
        without: Condition = NOTHING,
        generator: Generator | None = None,
        noise: Tensor | None = None,
        between: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """(B, channels, H, W), -1 to 1, by `steps` straight steps that the network was told the length of (Frans et
        al., arXiv 2410.12557).

        shape: (B, H, W).  scale, without: as of `protocol.guided`.  noise: what to start from, else drawn.
        between: changes the clean picture that each step aims at.
        """
        count, height, width = shape
        if noise is None:
            noise = torch.randn(count, self.channels, height, width, generator=generator).to(self.device)
        x = noise
        for k in range(steps):
            t = torch.full((count,), 1 - k / steps, device=x.device)
            step = torch.full_like(t, 1 / steps)
            target = self._asked(x, t, step, condition)
            if scale != 1:
                untold = self._asked(x, t, step, without)
                target = untold + scale * (target - untold)
            if between is not None:
                target = between(target)
            # In a straight line towards the target: of the way, t, the step is 1 / steps.
            x = torch.lerp(x, target, 1 / (steps - k))
        return x.clamp(-1, 1)
