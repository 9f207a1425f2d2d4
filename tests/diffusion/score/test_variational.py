"""The online model: adapters in networks of diffusers, copies of others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relight.diffusion.protocol import NOTHING, Condition, Denoiser
from relight.diffusion.score.distillation import ScoreDistillation
from relight.diffusion.score.options import ScoreOptions
from relight.diffusion.score.variational import CopiedTwin, LoraTwin, adaptable, networks, twin_of
from relight.errors import DataError, RelightError
from relight.testing.denoisers import MixtureDenoiser, check_denoiser


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Flow:
    """A frozen network of velocities as a `Denoiser`; not a module itself, as wrappers of public weights are not."""

    def __init__(self, network: nn.Module, channels: int, width: int):
        self.network, self.channels, self.width = network.eval().requires_grad_(False), channels, width

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        tokens = condition.tokens
        told = torch.zeros(len(noisy), 1, self.width) if tokens is None else tokens
        return noisy - t.view(-1, 1, 1, 1) * self.network(noisy, 1000 * t, told).sample


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=6, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


@pytest.fixture
def prior(unet) -> Flow:
    return Flow(unet, 3, 6)


PICTURES = 0.3 * torch.randn(2, 3, 8, 8, generator=generator(1))
TIMES = torch.tensor([0.3, 0.6])


def test_adapters_learn_and_the_prior_stays(prior):
    before = prior.clean(PICTURES, TIMES)
    twin = twin_of(prior, ScoreOptions(guidance="vsd", twin_rate=0.01, twin="lora"), generator())
    assert isinstance(twin, LoraTwin) and isinstance(twin, Denoiser)
    assert torch.equal(twin.clean(PICTURES, TIMES), before), "an adapter begins as nothing"
    noise = torch.randn(PICTURES.shape, generator=generator(2))
    losses = [twin.learn(PICTURES, noise, TIMES) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert torch.equal(prior.clean(PICTURES, TIMES), before)
    assert not torch.allclose(twin.clean(PICTURES, TIMES), before, atol=1e-3)
    assert all(".lora_" in name for name in twin.parameters)
    share = sum(p.numel() for p in twin.parameters.values()) / sum(p.numel() for p in prior.network.parameters())
    assert share < 0.3


def test_adapters_are_drawn_by_the_generator(prior):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(states))
        states.append(twin_of(prior, ScoreOptions(guidance="vsd", twin="lora"), generator(seed)).state())
    drawn = [torch.cat([v.flatten() for k, v in state.items() if "lora_A" in k]) for state in states]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_the_twin_goes_on_from_its_state(prior, kind):
    noise = torch.randn(PICTURES.shape, generator=generator(2))
    options = ScoreOptions(guidance="vsd", twin_rate=0.01, twin=kind)

    def learnt(twin, steps):
        return [twin.learn(PICTURES, noise, TIMES) for _ in range(steps)]

    whole = learnt(twin_of(prior, options, generator()), 4)
    first = twin_of(prior, options, generator())
    learnt(first, 2)
    saved = first.state()
    second = twin_of(prior, options, generator(5))
    second.restore(saved)
    assert learnt(second, 2) == whole[2:]


def test_a_state_of_another_model_is_refused(prior):
    twin = twin_of(prior, ScoreOptions(guidance="vsd", twin="lora", rank=4), generator())
    before = twin.clean(PICTURES, TIMES)
    other = {k: v[..., :1] if "lora_A" in k else v for k, v in twin.state().items()}
    with pytest.raises(DataError, match="expected shape"):
        twin.restore(other)
    with pytest.raises(DataError, match="found nothing"):
        twin.restore({})
    assert torch.equal(twin.clean(PICTURES, TIMES), before)


def test_score_distillation_with_adapters(prior):
    score = ScoreDistillation(prior, ScoreOptions(guidance="vsd", twin="lora", twin_rate=0.01, scale=2), generator())
    picture = PICTURES.clone().requires_grad_()
    told = Condition(tokens=torch.randn(2, 4, 6, generator=generator(3)))
    first = score(picture, 0.0, told, without=NOTHING)
    first.loss.backward()
    assert picture.grad is not None and picture.grad.any() and first.twin_loss is not None
    assert all(p.grad is None for p in prior.network.parameters())
    assert {k.split(".")[0] for k in score.state()} == {"twin", "health", "generator"}
    assert any(k.startswith("twin.exp_avg.") for k in score.state())


def test_what_cannot_have_a_twin():
    class Bare:
        channels = 1

        def rates(self, t):
            return 1 - t, t

        def clean(self, noisy, t, condition=NOTHING):
            return noisy

    with pytest.raises(RelightError, match="has no parameters"):
        twin_of(Bare(), ScoreOptions(guidance="vsd"), generator())
    with pytest.raises(RelightError, match="takes adapters"):
        twin_of(Bare(), ScoreOptions(guidance="vsd", twin="lora"), generator())


def test_networks_are_found_through_wrappers(prior):
    class Wrapped:
        def __init__(self, inner):
            self.inner, self.channels, self.name = inner, inner.channels, "wrapped"

        def rates(self, t):
            return self.inner.rates(t)

        def clean(self, noisy, t, condition=NOTHING):
            return self.inner.clean(noisy, t, condition)

    assert networks(Wrapped(prior)) == {"inner.network": prior.network}
    assert adaptable(Wrapped(Wrapped(prior))) is prior.network
    model = MixtureDenoiser(torch.zeros(1, 1, 1, 1), torch.tensor([1.0]))
    assert adaptable(Wrapped(model)) is None and list(networks(Wrapped(model))) == ["inner"]
    assert "inner.means" in CopiedTwin(Wrapped(model), 1e-3).parameters


def test_small_networks_are_copied_and_large_ones_get_adapters(prior, monkeypatch):
    assert isinstance(twin_of(prior, ScoreOptions(guidance="vsd"), generator()), CopiedTwin)
    monkeypatch.setattr("relight.diffusion.score.variational.SMALL", 1000)
    assert isinstance(twin_of(prior, ScoreOptions(guidance="vsd"), generator()), LoraTwin)


def test_adapters_of_others_are_not_switched_off(prior):
    from peft import LoraConfig

    options = ScoreOptions(guidance="vsd", twin="lora")
    twin_of(prior, options, generator())
    with pytest.warns(UserWarning, match="multiple adapters"):
        prior.network.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), adapter_name="lcm")
    try:
        with pytest.raises(RelightError, match="adapters already \\(lcm\\)"):
            twin_of(prior, options, generator())
    finally:
        prior.network.delete_adapters("lcm")


def test_a_copy_learns_a_gaussian_exactly():
    """The denoising loss is least where the twin is the model of what it sees."""
    model = MixtureDenoiser(torch.zeros(1, 1, 1, 1), torch.tensor([1.0]))
    twin = CopiedTwin(model, 0.02)
    pictures = 0.4 + 0.2 * torch.randn(512, 1, 1, 1, generator=generator(1))
    g = generator(2)
    for _ in range(250):
        t = 0.05 + 0.9 * torch.rand(512, generator=g)
        twin.learn(pictures, torch.randn(pictures.shape, generator=g), t)
    assert float(twin.parameters["means"].detach()) == pytest.approx(0.4, abs=0.05)
    assert float(twin.parameters["log_deviations"].detach().exp()) == pytest.approx(0.2, abs=0.05)
    assert float(model.means) == 0
    check_denoiser(model, pictures[:4], g)


def test_the_twin_is_not_taught_the_background():
    model = MixtureDenoiser(torch.zeros(1, 1, 2, 2), torch.tensor([0.5]))
    mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    twin = CopiedTwin(model, 0.02)
    pictures, g = torch.ones(64, 1, 2, 2), generator()
    for _ in range(40):
        twin.learn(pictures, torch.randn(pictures.shape, generator=g), torch.full((64,), 0.7), mask=mask)
    means = twin.parameters["means"].detach()
    assert float(means[..., 0, :].min()) > 0.3 and not means[..., 1, :].any()
