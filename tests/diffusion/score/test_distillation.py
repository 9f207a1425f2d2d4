"""Gradients of score distillation against closed forms of Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from closed_forms import (
    DEVIATION,
    FIXED,
    LIGHT,
    MANY,
    MEAN,
    at,
    gaussian,
    generator,
    gradient,
    light,
    mean_gradient,
    rates,
    shrink,
)
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition, guided, noised
from relight.diffusion.samplers import ddim
from relight.diffusion.score.distillation import ScoreDistillation, blurred, without_words
from relight.diffusion.score.guidance import GUIDANCE, inverted
from relight.diffusion.score.options import FIRST, ScoreOptions
from relight.diffusion.score.variational import CopiedTwin
from relight.testing.denoisers import MixtureDenoiser


@pytest.mark.parametrize("kind", ["flow", "vp"])
@pytest.mark.parametrize("weight", ["picture", "noise", "variance", "signal_variance"])
def test_sds_of_a_gaussian(kind, weight):
    """E[x - x0(x_t)] = (x - m) s^2 / (a^2 v + s^2)."""
    model = gaussian(kind)
    a, s = rates(model, FIXED)
    factor = {"picture": 1, "noise": a / s, "variance": a * s, "signal_variance": a * a * s}[weight]
    found = mean_gradient(at(FIXED, guidance="sds", weight=weight), model, 1.0)
    assert found == pytest.approx(factor * (1 - MEAN) * shrink(model, FIXED), abs=6e-3)


@pytest.mark.parametrize("kind", ["flow", "vp"])
def test_guidance_moves_the_mean_that_is_aimed_at(kind):
    model = gaussian(kind)
    found = mean_gradient(at(FIXED, guidance="sds", scale=3), model, 1.0, told=True)
    assert found == pytest.approx((1 - MEAN - 3 * LIGHT) * shrink(model, FIXED), abs=6e-3)


FAULTS = {
    "sign": lambda ask: ask.expected(ask.noisy, ask.t) - ask.x,
    "guidance forgotten": lambda ask: ask.x - ask.model.clean(ask.noisy, ask.t, ask.condition),
    "terms swapped": lambda ask: ask.x - guided(ask.model, ask.noisy, ask.t, ask.without, ask.condition, ask.scale),
    "from the noisy picture": lambda ask: ask.noisy - ask.expected(ask.noisy, ask.t),
    "another time": lambda ask: ask.x - ask.expected(ask.noisy, 0.9 * ask.t),
    "3 % off": lambda ask: 1.03 * (ask.x - ask.expected(ask.noisy, ask.t)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_tests_above_notice_faults(fault, monkeypatch):
    monkeypatch.setitem(GUIDANCE, "sds", lambda ask: (FAULTS[fault](ask), ask.x))
    with pytest.raises(AssertionError):
        test_guidance_moves_the_mean_that_is_aimed_at("flow")


def test_random_guidance_is_each_pictures_own():
    model, x = gaussian(), torch.linspace(-1, 1, 8).view(8, 1, 1, 1)
    options = at(FIXED, guidance="sds", cfg="random", scale=1, scale_to=5)
    found = gradient(ScoreDistillation(model, options, generator(4)), x, light(8), without=NOTHING)
    g, t = generator(4), torch.full((8,), FIXED)
    options.time(8, 0.0, g)
    scale = options.guidance_scale(8, 0.0, g)
    noisy = noised(model, x, torch.randn(x.shape, generator=g), t)
    untold = model.clean(noisy, t)
    assert isinstance(scale, Tensor) and scale.std() > 0.5
    assert torch.allclose(found, x - untold - scale * (model.clean(noisy, t, light(8)) - untold), atol=1e-5)


def test_csd_is_the_condition_s_difference_and_has_no_noise():
    model = gaussian()
    score = ScoreDistillation(model, at(FIXED, guidance="csd"), generator())
    found = gradient(score, torch.linspace(-1, 1, 8).view(8, 1, 1, 1), light(8), without=NOTHING)
    assert torch.allclose(found, torch.full_like(found, -LIGHT * shrink(model, FIXED)), atol=1e-5)


def test_csd_s_four_terms_are_annealed():
    """w (c eps_told + u eps_negative + n eps_null + z eps), whose noise, as z's, has mean 0: DreamMat's formula."""
    model, count = gaussian("vp"), MANY
    options = at(FIXED, guidance="csd", told=(1.05, 1.05), negative=(-1, -0.5), null=(0, -0.5), annealed_by=0.5)
    bad = Condition(maps=torch.full((count, 1, 1, 1), -0.3))
    a, s = rates(model, FIXED)
    for progress, u, n in ((0.0, -1, 0), (0.25, -0.75, -0.25), (0.5, -0.5, -0.5), (1.0, -0.5, -0.5)):
        score = ScoreDistillation(model, options, generator())
        x = torch.full((count, 1, 1, 1), 0.7)
        found = gradient(score, x, light(count), progress, without=NOTHING, negative=bad).mean()
        noise, t = torch.randn(x.shape, generator=generator(5)), torch.full((count,), FIXED)
        noisy = noised(model, x, noise, t)
        terms = ((1.05, light(count)), (u, bad), (n, NOTHING))
        expected = sum(w * (noisy - a * model.clean(noisy, t, c)) / s for w, c in terms)
        assert isinstance(expected, Tensor)
        assert float(found) == pytest.approx(float((expected - 7 * noise).mean()) * s / a, abs=0.05)


def test_sds_with_guidance_is_csd_with_weights_that_sum_to_one():
    model = MixtureDenoiser(torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1), torch.tensor([0.3, 0.4]))
    told, x = Condition(tokens=model.token(1, 5)), torch.linspace(-1, 1, 5).view(5, 1, 1, 1)
    options = ScoreOptions(guidance="sds", scale=3), ScoreOptions(guidance="csd", told=(3, 3), null=(-2, -2))
    sds, csd = (gradient(ScoreDistillation(model, o, generator(1)), x, told) for o in options)
    assert torch.allclose(sds, csd, atol=1e-5)


def test_light_told_to_some_terms_only_leaks_into_the_gradient():
    """DreamMat's rule, which `without_words` keeps: the difference must hold the words alone."""
    model = MixtureDenoiser(torch.tensor([0.0, 0.5]).view(2, 1, 1, 1), torch.full((2,), 0.2))
    told = Condition(maps=torch.full((4, 1, 1, 1), LIGHT), tokens=model.token(1, 4))
    x = model.sample(4, generator(), told)

    def pull(shift: float, without: Condition | None) -> Tensor:
        condition = Condition(maps=torch.full((4, 1, 1, 1), shift), tokens=told.tokens)
        score = ScoreDistillation(model, at(FIXED, guidance="csd"), generator(1))
        return gradient(score, x - LIGHT + shift, condition, without=without)

    assert torch.allclose(pull(LIGHT, None), pull(0.0, None), atol=1e-5)
    assert not torch.allclose(pull(LIGHT, NOTHING), pull(0.0, NOTHING), atol=0.05)
    assert without_words(told).maps is told.maps and without_words(told).tokens is None


@pytest.mark.parametrize("kind", ["flow", "vp"])
def test_steps_to_a_clean_picture(kind):
    """One is SDS; many are the flow, which carries x_t to m + (x_t - a m) sqrt(v / (a^2 v + s^2))."""
    model = gaussian(kind)
    one = mean_gradient(at(FIXED, guidance="x0", steps=1), model, 1.0)
    assert one == mean_gradient(at(FIXED, guidance="sds"), model, 1.0)
    a, s = rates(model, FIXED)
    carried = a * math.sqrt(DEVIATION**2 / (a * a * DEVIATION**2 + s * s))
    many = mean_gradient(at(FIXED, guidance="x0", steps=50), model, 1.0)
    assert many == pytest.approx((1 - MEAN) * (1 - carried), abs=8e-3)
    few = [abs(mean_gradient(at(FIXED, guidance="x0", steps=n), model, 1.0) - many) for n in (1, 3, 10)]
    assert few[0] > few[1] > few[2]


def test_inversion_is_the_flow_backwards():
    """Whose end is known, a m + (x - m) sqrt(a^2 v + s^2) / sqrt(v), and which steps approach to first order."""
    model = gaussian("vp")
    x, t = torch.linspace(-1, 1, 5).view(5, 1, 1, 1), torch.full((5,), 0.6)
    a, s = rates(model, 0.6)
    expected = a * MEAN + math.sqrt(a * a * DEVIATION**2 + s * s) / DEVIATION * (x - MEAN)
    error = {n: float((inverted(model, x, t, n, model.clean) - expected).abs().max()) for n in (10, 50, 250)}
    assert error[50] < 0.3 * error[10] and error[250] < 0.02
    times = [t + (FIRST - t) * k / 250 for k in range(251)]
    back = ddim(model, inverted(model, x, t, 250, model.clean), times, model.clean)
    assert torch.allclose(back, x, atol=0.02)


def test_ism_is_the_papers_difference_of_noises():
    model, t, gap = gaussian("vp"), 0.5, 0.1
    options = at(t, guidance="ism", interval=gap, scale=2.0)
    x = torch.linspace(-1, 1, 6).view(6, 1, 1, 1)
    found = gradient(ScoreDistillation(model, options, generator()), x, light(6), without=NOTHING)
    assert torch.equal(found, gradient(ScoreDistillation(model, options, generator(9)), x, light(6), without=NOTHING))
    early, late = torch.full((6,), t - gap), torch.full((6,), t)
    x_s = inverted(model, x, early, options.inversion_steps, model.clean)
    (a_s, s_s), (a_t, s_t) = rates(model, t - gap), rates(model, t)
    eps_s = (x_s - a_s * model.clean(x_s, early)) / s_s
    x_t = a_t * (x_s - s_s * eps_s) / a_s + s_t * eps_s
    told = model.clean(x_t, late, light(6))
    guided_picture = model.clean(x_t, late) + 2 * (told - model.clean(x_t, late))
    eps_t = (x_t - a_t * guided_picture) / s_t
    assert torch.allclose(found, s_t / a_t * (eps_t - eps_s), atol=1e-4)


def test_sdi_uses_the_pictures_own_noise():
    model = gaussian()
    x = torch.linspace(-1, 1, 6).view(6, 1, 1, 1)

    def found(eta: float, seed: int) -> Tensor:
        options = at(FIXED, guidance="sdi", eta=eta, scale=3, inversion_scale=1, inversion_steps=10)
        return gradient(ScoreDistillation(model, options, generator(seed)), x, light(6), without=NOTHING)

    assert torch.equal(found(0, 1), found(0, 2)) and not torch.equal(found(0.3, 1), found(0.3, 2))
    t = torch.full((6,), FIXED)
    noisy = inverted(model, x, t, 10, lambda noisy, t: model.clean(noisy, t, light(6)))
    expected = x - (3 * model.clean(noisy, t, light(6)) - 2 * model.clean(noisy, t))
    assert torch.allclose(found(0, 1), expected, atol=1e-5)
    default = at(FIXED, guidance="sdi", eta=0, scale=3, inversion_steps=10)
    same = at(FIXED, guidance="sdi", eta=0, scale=3, inversion_steps=10, inversion_scale=-3)
    one, other = (
        gradient(ScoreDistillation(model, o, generator()), x, light(6), without=NOTHING) for o in (default, same)
    )
    assert torch.equal(one, other) and not torch.allclose(one, found(0, 1), atol=1e-3)


def known_twin(model: MixtureDenoiser, mean: float, deviation: float) -> CopiedTwin:
    twin = CopiedTwin(model, 1e-9)
    with torch.no_grad():
        twin.parameters["means"].fill_(mean)
        twin.parameters["log_deviations"].fill_(math.log(deviation))
    return twin


def test_vsd_between_two_gaussians():
    """E[x0_twin - x0_prior] at x = (x - m) shrink(v) - (x - m') shrink(v')."""
    model = gaussian()
    found = mean_gradient(at(FIXED, guidance="vsd"), model, 1.0, twin=known_twin(model, 0.9, 0.3))
    expected = (1 - MEAN) * shrink(model, FIXED) - (1 - 0.9) * shrink(model, FIXED, 0.3)
    assert found == pytest.approx(expected, abs=6e-3)


def test_vsd_is_still_where_the_pictures_are_the_prior_s():
    model = gaussian()
    score = ScoreDistillation(model, at(FIXED, guidance="vsd"), generator(), twin=known_twin(model, MEAN, DEVIATION))
    assert float(gradient(score, model.sample(8, generator(3))).abs().max()) < 1e-5


def test_sid_is_the_gradient_of_its_loss():
    model = gaussian()
    twin = known_twin(model, 0.7, 0.3)
    x = torch.linspace(-1, 1, 6).view(6, 1, 1, 1)
    found = gradient(ScoreDistillation(model, at(FIXED, guidance="sid"), generator(4), twin=twin), x)
    twin = known_twin(model, 0.7, 0.3)
    g = generator(4)
    at(FIXED).time(6, 0.0, g)
    noise, t = torch.randn(x.shape, generator=g), torch.full((6,), FIXED)

    def loss(picture: Tensor) -> Tensor:
        noisy = noised(model, picture, noise, t)
        real, away = model.clean(noisy, t), model.clean(noisy, t) - twin.clean(noisy, t)
        return (away * ((real - picture) - 1.2 * away)).flatten()

    step = 1e-2
    expected = (loss(x + step) - loss(x - step)).view_as(x) / (2 * step)
    assert torch.allclose(found, expected.detach(), atol=1e-3)


def exact_ratio(model: MixtureDenoiser, twin: CopiedTwin):
    fake = twin.copy
    assert isinstance(fake, MixtureDenoiser)
    return lambda noisy, t, condition: model.log_density(noisy, t, condition) - fake.log_density(noisy, t, condition)


@pytest.mark.parametrize("divergence", ["rkl", "softened_rkl", "js", "hellinger", "fkl", "jeffreys"])
def test_divergences_weigh_vsd_by_the_ratio_of_densities(divergence):
    model = gaussian()
    x = torch.linspace(-1, 1, 9).view(9, 1, 1, 1)
    twin = known_twin(model, 0.7, 0.3)
    ratio = exact_ratio(model, known_twin(model, 0.7, 0.3))
    plain = gradient(ScoreDistillation(model, at(FIXED, guidance="vsd"), generator(4), twin=twin), x)
    options = at(FIXED, guidance="vsd", divergence=divergence)
    weighed = ScoreDistillation(model, options, generator(4), twin=known_twin(model, 0.7, 0.3), log_ratio=ratio)
    found = gradient(weighed, x)
    if divergence == "rkl":
        assert torch.equal(found, plain)
        return
    g = generator(4)
    options.time(9, 0.0, g)
    t = torch.full((9,), FIXED)
    noisy = noised(model, x, torch.randn(x.shape, generator=g), t)
    weight = options.divergence_weight(ratio(noisy, t, NOTHING)).view_as(x)
    assert weight.std() > 0.01 and torch.allclose(found, weight * plain, atol=1e-6)


def test_dmd_s_normaliser_takes_scale_out():
    """A prior, a picture and noise a hundred times as large give the same gradient but for its scale; any weight of a
    sample's own cancels."""
    big = MixtureDenoiser(torch.full((1, 1, 4, 4), 20.0), torch.tensor([50.0]))
    small = MixtureDenoiser(torch.full((1, 1, 4, 4), 0.2), torch.tensor([0.5]))
    x = torch.randn(6, 1, 4, 4, generator=generator(2))

    def sizes(normalise: str, guidance: str, model: MixtureDenoiser, scale: float) -> Tensor:
        twin = CopiedTwin(model, 1e-9)
        with torch.no_grad():
            twin.parameters["means"].add_(0.5 * scale)
        options = ScoreOptions(guidance=guidance, normalise=normalise, low=0.98, high=0.98)  # type: ignore[arg-type]
        found = gradient(ScoreDistillation(model, options, generator(), twin=twin), scale * x)
        return found.abs().mean((1, 2, 3))

    sds = sizes("dmd", "sds", small, 1)
    assert torch.allclose(sds, torch.ones(6), atol=1e-5)
    # At t = 0.98 the noise hardly matters, so that the two are the same but for scale.
    assert torch.allclose(sizes("dmd", "vsd", big, 100), sizes("dmd", "vsd", small, 1), rtol=0.35)
    assert float((sizes("none", "vsd", big, 100) / sizes("none", "vsd", small, 1)).min()) > 30


def test_masked_pixels_get_no_gradient_and_don_t_count():
    model = MixtureDenoiser(torch.zeros(1, 2, 6, 6), torch.tensor([0.4]))
    x = torch.randn(3, 2, 6, 6, generator=generator())
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 1:4, 2:5] = 1
    mask[..., 2, 3] = 0.5
    options = ScoreOptions(guidance="sds", normalise="dmd", average="pixels")
    found = gradient(ScoreDistillation(model, options, generator(1)), x, mask=mask)
    assert not found[(mask == 0).expand_as(found)].any() and found[(mask > 0).expand_as(found)].all()
    outside = x + 5 * (mask == 0)
    # The mixture's answer in a pixel doesn't depend on others, as it has one component.
    assert torch.allclose(found, gradient(ScoreDistillation(model, options, generator(1)), outside, mask=mask))
    whole = gradient(ScoreDistillation(model, ScoreOptions(guidance="sds"), generator(1)), x)
    part = gradient(ScoreDistillation(model, ScoreOptions(guidance="sds"), generator(1)), x, mask=mask)
    assert torch.allclose(part, whole * mask, atol=1e-6)


def test_average_over_pixels_does_not_depend_on_size():
    losses = []
    for size in (8, 64):
        model = MixtureDenoiser(torch.zeros(1, 3, size, size), torch.tensor([0.4]))
        score = ScoreDistillation(model, at(FIXED, guidance="sds", average="pixels"), generator())
        losses.append(float(score(torch.ones(4, 3, size, size), 0.0).loss))
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_strength_fades_and_gradients_are_clipped():
    model, x = gaussian(), torch.ones(4, 1, 1, 1)

    def found(progress: float, **options) -> Tensor:
        return gradient(ScoreDistillation(model, at(FIXED, **options), generator()), x, progress=progress)

    full = found(0.0, strength=2.0)
    assert torch.allclose(found(0.75, strength=2.0, fades=True), 0.25 * full)
    assert not found(1.0, fades=True).any()
    assert float(found(0.0, clip=0.05).abs().max()) == pytest.approx(0.05)
    assert float(full.abs().max()) / 2 > 0.05


def test_blur_is_of_what_the_mask_shows():
    g = torch.zeros(1, 1, 9, 9)
    g[..., 4, 4] = 1
    g[..., 0, 0] = 1e6
    weight = torch.ones(1, 1, 9, 9)
    weight[..., 0, 0] = 0
    out = blurred(g, weight, 1.0)
    assert 0.1 < float(out[..., 4, 4]) < 0.2 and float(out.max()) < 0.2
    model, x = MixtureDenoiser(torch.zeros(1, 1, 9, 9), torch.tensor([0.5])), torch.zeros(1, 1, 9, 9)
    sharp, soft = (
        gradient(ScoreDistillation(model, at(FIXED, guidance="sds", blur=b), generator()), x, mask=weight)
        for b in (0, 1)
    )
    assert torch.allclose(soft, blurred(sharp, weight, 1.0) * weight, atol=1e-6) and soft.std() < 0.5 * sharp.std()
    flat = blurred(torch.full((2, 3, 9, 9), 0.7), weight.expand(2, 1, 9, 9), 2.0)
    assert torch.allclose(flat, torch.full_like(flat, 0.7), atol=1e-5)
