"""What random scenes are drawn with: numbers, colours of light, and noise that repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from relight.shading.color import blackbody, luminance
from relight.vectors import unit

T = TypeVar("T")


@dataclass(frozen=True)
class Draw:
    """Numbers from a generator.  The same seed gives the same scene; tensors lie on the generator's device."""

    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Tensor of this shape."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform."""
        return low + (high - low) * float(torch.rand((), generator=self.generator, device=self.device))

    def log(self, low: float, high: float) -> float:
        """Uniform in the logarithm."""
        return math.exp(self.number(math.log(low), math.log(high)))

    def count(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return min(int(self.number(low, high + 1)), high)

    def chance(self, probability: float) -> bool:
        return self.number() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of them, all alike."""
        return choices[int(torch.randint(len(choices), (), generator=self.generator, device=self.device))]

    def direction(self) -> Tensor:
        """(3,) unit, uniform over the sphere."""
        return unit(torch.randn(3, generator=self.generator, device=self.device))

    def light(self, low: float = 2000.0, high: float = 10000.0) -> Tensor:
        """(3,) light of a black body; its reciprocal temperature is uniform, which is even to the eye."""
        return blackbody(1 / self.number(1 / high, 1 / low)).to(self.device)

    def paint(self, low: float = 0.05, high: float = 0.85, saturation: float = 0.5) -> Tensor:
        """(3,) albedo: brightness between low and high, colourful up to `saturation`; most are pale."""
        hue = self.uniform(0, 1, 3)
        hue = hue / hue.max()
        color = 1 - saturation * self.number() ** 1.5 * (1 - hue)
        return (color / color.mean() * self.number(low, high)).clamp(0.01, 0.95)

    def vivid(self) -> Tensor:
        """(3,) saturated light of luminance 1 as of a coloured LED."""
        phase = 2 * math.pi * (self.number() - torch.arange(3, device=self.device) / 3)
        color = (0.5 + 0.5 * phase.cos()) ** 2 + 0.01
        return color / luminance(color)

    def noise(self, roughness: float = 1.0, size: int = 128) -> Tensor:
        """(size, size) fractal noise that repeats, mean 0, variance 1, by spectral synthesis (Voss 1988).

        roughness: 0 is smooth as clouds from afar; 1 about as rough as their edges, 2 nearly white.
        """
        rows, columns = torch.fft.fftfreq(size, device=self.device), torch.fft.rfftfreq(size, device=self.device)
        frequency = (rows[:, None] ** 2 + columns**2).sqrt()
        frequency[0, 0] = math.inf
        phases = torch.randn(size, size // 2 + 1, 2, generator=self.generator, device=self.device)
        spectrum = torch.view_as_complex(phases) * frequency ** (roughness - 2.5)
        picture = torch.fft.irfft2(spectrum, s=(size, size))
        return picture / picture.std()


def repeated(picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(...) values of a (size, size) picture that repeats with period 1, bilinear, at (...) coordinates."""
    size = picture.shape[0]
    x, y = x * size, y * size
    left, top = x.floor(), y.floor()
    across, down = x - left, y - top
    left, top = left.long() % size, top.long() % size
    right, below = (left + 1) % size, (top + 1) % size
    flat = picture.reshape(-1)
    upper = torch.lerp(flat[top * size + left], flat[top * size + right], across)
    lower = torch.lerp(flat[below * size + left], flat[below * size + right], across)
    return torch.lerp(upper, lower, down)


def soft_step(x: Tensor) -> Tensor:
    """0 below -1/2, 1 above 1/2, smooth between."""
    x = (x + 0.5).clamp(0, 1)
    return x * x * (3 - 2 * x)
