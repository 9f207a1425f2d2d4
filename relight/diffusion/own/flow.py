"""What our priors are trained with: rectified flow in terms of the clean picture, and straight steps of any length."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from relight.diffusion.own.network import Network

NEAREST = 0.1
"""The weight of an error in the clean picture is 1 / (t + NEAREST): between an even one and that of velocities, which
grows without bound towards t = 0, where little is left to learn."""
LONGEST = 7
"""Steps are halves of halves of the whole way, down to 2 ** -LONGEST."""


def times(count: int, generator: Generator, device: torch.device, least: float = 0.0) -> Tensor:
    """(count,) logit-normal (Esser et al., arXiv 2403.03206), and one in eight at pure noise, where few-step sampling
    begins.  least: the earliest, nearest to the picture."""
    t = least + (1 - least) * torch.sigmoid(torch.randn(count, generator=generator))
    t = torch.where(torch.rand(count, generator=generator) < 0.125, 1.0, t)
    return t.clamp(1e-3, 1).to(device)


def flow_loss(
    network: Network, picture: Tensor, maps: Tensor, tokens: Tensor, weight: Tensor, generator: Generator,
    least: float = 0.0,
) -> Tensor:  # fmt: skip
    """Mean over (B, C, H, W) pictures of the weighted squared error at random `times`.  weight: (B, 1, H, W)."""
    t = times(len(picture), generator, picture.device, least)
    noise = torch.randn(picture.shape, generator=generator).to(picture)
    noisy = torch.lerp(picture, noise, t.view(-1, 1, 1, 1))
    found = network(noisy, t, torch.zeros_like(t), maps, tokens)
    return ((found - picture) ** 2 * weight / (t + NEAREST).view(-1, 1, 1, 1)).mean()


def step_loss(
    network: Network,
    teacher: Network,
    picture: Tensor,
    maps: Tensor,
    tokens: Tensor,
    weight: Tensor,
    generator: Generator,
) -> Tensor:
    """One step of twice the length has to end where two of the teacher's end (shortcut models, arXiv 2410.12557).

    In terms of pictures: with velocity (x_t - X) / t, the target of the long step is what a straight line from x_t
    through the end of the two short ones meets at t = 0.
    """
    count = len(picture)
    level = torch.randint(1, LONGEST + 1, (count,), generator=generator)
    short = 2.0**-level
    # The long step must fit: its start is a multiple of its length.
    place = torch.floor(torch.rand(count, generator=generator) / (2 * short))
    t = ((place + 1) * 2 * short).clamp_max(1).to(picture)
    short = torch.where(level == LONGEST, 0.0, short).to(picture)
    length = torch.where(level.to(picture.device) == LONGEST, 2.0**-LONGEST, short)
    noise = torch.randn(picture.shape, generator=generator).to(picture)
    x = torch.lerp(picture, noise, t.view(-1, 1, 1, 1))
    with torch.no_grad():
        velocity = _velocity(teacher, x, t, short, maps, tokens)
        half = x - length.view(-1, 1, 1, 1) * velocity
        velocity = (velocity + _velocity(teacher, half, (t - length).clamp_min(1e-3), short, maps, tokens)) / 2
        target = x - t.view(-1, 1, 1, 1) * velocity
    found = network(x, t, 2 * length, maps, tokens)
    return ((found - target) ** 2 * weight / (t + NEAREST).view(-1, 1, 1, 1)).mean()


def _velocity(network: Network, x: Tensor, t: Tensor, step: Tensor, maps: Tensor, tokens: Tensor) -> Tensor:
    return (x - network(x, t, step, maps, tokens)) / t.view(-1, 1, 1, 1)
