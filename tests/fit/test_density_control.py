"""Growing and pruning: counts, optimiser state, and what the picture looks like after."""

import math

import pytest
import torch

from relight.fit.densify import AdaptiveDensity, MarkovChainDensity, Schedule, relocation
from relight.fit.parameters import Parameters
from relight.render.protocol import ScreenStatistics

NAMES = ("means", "quats_wxyz", "log_scales", "logit_opacity", "extra")


def parameters(n: int = 40) -> Parameters:
    g = torch.Generator().manual_seed(0)
    tensors = {
        "means": torch.randn(n, 3, generator=g),
        "quats_wxyz": torch.randn(n, 4, generator=g),
        "log_scales": 0.3 * torch.randn(n, 3, generator=g) - 3,
        "logit_opacity": torch.randn(n, generator=g),
        "extra": torch.arange(n, dtype=torch.float32),
    }
    p = Parameters(tensors, dict.fromkeys(NAMES, 1e-3))
    torch.stack([(p[k] * torch.randn(p[k].shape, generator=g)).sum() for k in NAMES]).sum().backward()
    p.step()
    return p


def statistics(n: int, strong: torch.Tensor) -> ScreenStatistics:
    s = ScreenStatistics(torch.ones(n), torch.zeros(n, 2))
    s.absolute_gradients = torch.where(strong[:, None], 1.0, 0.0).expand(n, 2)
    return s


def refined(p: Parameters, strong: torch.Tensor, cap: int = 1000, **options) -> None:
    control = AdaptiveDensity(
        Schedule(0, 100, 10, cap), 1.0, 1e-3, options.pop("small", 1e9), options.pop("prune", 0.0), 0
    )
    control.after_backward(p, statistics(len(p), strong), 100, 100)
    control.after_step(10, p, torch.Generator().manual_seed(0))


def test_strong_gradients_are_cloned_and_the_pair_covers_as_much():
    p = parameters()
    before = {k: p[k].detach().clone() for k in NAMES}
    strong = torch.arange(40) < 5
    refined(p, strong)
    assert len(p) == 45
    assert torch.equal(p["extra"][40:], before["extra"][:5])
    old = torch.sigmoid(before["logit_opacity"][:5])
    first, second = torch.sigmoid(p["logit_opacity"][:5]), torch.sigmoid(p["logit_opacity"][40:])
    assert torch.allclose(1 - (1 - first) * (1 - second), old, atol=1e-4)
    assert torch.equal(p["means"][:5].detach(), before["means"][:5])


def test_large_ones_are_split_smaller_and_apart():
    p = parameters()
    before = {k: p[k].detach().clone() for k in NAMES}
    refined(p, torch.arange(40) < 5, small=0.0)
    assert torch.allclose(p["log_scales"][40:], before["log_scales"][:5] - math.log(1.6))
    assert bool((p["means"][40:] != before["means"][:5]).any(1).all())


def test_moments_move_along_and_start_at_zero_for_new_ones():
    p = parameters()
    moments = p.adam.state[p["means"]]["exp_avg"].clone()
    refined(p, torch.arange(40) < 5)
    found = p.adam.state[p["means"]]["exp_avg"]
    assert torch.equal(found[5:40], moments[5:]) and not found[:5].any() and not found[40:].any()
    p["means"].sum().backward()
    p.step()  # the optimiser knows the new tensors


def test_the_cap_takes_the_strongest():
    p = parameters()
    refined(p, torch.ones(40, dtype=torch.bool), cap=43)
    assert len(p) == 43


def test_faint_ones_are_dropped():
    p = parameters()
    with torch.no_grad():
        p["logit_opacity"][:7] = -20.0
    refined(p, torch.zeros(40, dtype=torch.bool), prune=0.005)
    assert len(p) == 33 and float(p["extra"].detach().min()) > 6


@pytest.mark.parametrize("copies", [1, 2, 5, 20])
def test_relocated_gaussians_look_like_the_one_they_replace(copies):
    """Along a line through the centre: N coincident Gaussians against the old one (Kheradmand et al. 2024, eq. 8)."""
    opacity = torch.tensor([0.8])
    share, shrink = relocation(opacity, torch.tensor([copies]))
    x = torch.linspace(-4, 4, 2001, dtype=torch.float64)
    old = 0.8 * torch.exp(-0.5 * x**2)
    new = 1 - (1 - share.double() * torch.exp(-0.5 * (x / shrink.double()) ** 2)) ** copies
    assert float(new.max()) == pytest.approx(0.8, abs=1e-5)
    assert float(new.sum() / old.sum()) == pytest.approx(1, abs=2e-3)


def test_markov_chain_moves_the_dead_and_grows_to_the_cap():
    p = parameters()
    with torch.no_grad():
        p["logit_opacity"][:10] = -20.0
    control = MarkovChainDensity(Schedule(0, 100, 10, 41), 0.005, 0.05, 0.0)
    control.after_step(10, p, torch.Generator().manual_seed(0))
    assert len(p) == 41
    assert float(torch.sigmoid(p["logit_opacity"].detach()).min()) >= 0.0049
    assert bool((p["extra"].detach() >= 9.9).all()), "the dead ones are copies of live ones"


def test_noise_moves_faint_ones_only():
    p = parameters()
    with torch.no_grad():
        p["logit_opacity"][:20], p["logit_opacity"][20:] = -8.0, 8.0
    before = p["means"].detach().clone()
    MarkovChainDensity(Schedule(0, 100, 10, 40), 0.005, 0.05, 1e4).after_step(11, p, torch.Generator().manual_seed(0))
    moved = (p["means"].detach() - before).norm(dim=1)
    assert float(moved[:20].min()) > 100 * float(moved[20:].max())
