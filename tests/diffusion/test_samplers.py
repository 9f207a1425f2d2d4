"""Samplers on distributions whose every expectation is known."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition, Denoiser, noised
from relight.diffusion.samplers import SAMPLERS, FlowMap, Sampling, sample
from relight.errors import RelightError

MEAN, DEVIATION = 0.3, 0.4
SIZE = (1, 1, 100, 100)


@dataclass
class Gaussian:
    """Pixels are independent, of `MEAN` and `DEVIATION`.

    path: how noise comes in.  jumps: says not what it expects but where the probability flow ends, as models distilled
    for few steps do (both in closed form).  Maps shift its mean, tokens nothing.
    """

    path: str = "flow"
    jumps: bool = False
    mean: float = MEAN
    channels: int = 1
    asked: int = 0

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.path == "flow":
            return 1 - t, t
        return torch.cos(1.5 * t), torch.sin(1.5 * t)  # ends at a = 0.07, as Stable Diffusion does

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        self.asked += 1
        a, s = (rate.view(-1, 1, 1, 1) for rate in self.rates(t))
        mean = self.mean if condition.maps is None else self.mean + condition.maps
        spread = a**2 * DEVIATION**2 + s**2
        gain = DEVIATION / spread.sqrt() if self.jumps else DEVIATION**2 * a / spread
        return mean + gain * (noisy - a * mean)


class GaussianMap(Gaussian):
    """Also knows where the flow is at any other time."""

    def clean_until(self, noisy: Tensor, t: Tensor, until: Tensor, condition: Condition = NOTHING) -> Tensor:
        self.asked += 1
        t, until = t.view(-1, 1, 1, 1), until.view(-1, 1, 1, 1)
        spread, later = (((1 - x) ** 2 * DEVIATION**2 + x**2).sqrt() for x in (t, until))
        there = (1 - until) * self.mean + later / spread * (noisy - (1 - t) * self.mean)
        return noisy - t * (noisy - there) / (t - until)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("path", ["flow", "vp"])
@pytest.mark.parametrize("name", ["ddim", "dpm", "unipc", "tcd", "flow"])
def test_many_steps_reach_the_distribution(name, path):
    how = Sampling(name, 50, options={"eta": 0.0} if name == "tcd" else {})
    picture = sample(Gaussian(path), how, SIZE, generator=seeded())
    assert abs(picture.mean() - MEAN) < 0.03
    assert abs(picture.std() - DEVIATION) < (0.005 if name in ("dpm", "unipc") else 0.03)


@pytest.mark.parametrize("path", ["flow", "vp"])
@pytest.mark.parametrize("name", ["lcm", "scm", "flow-lcm", "tcd"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_model_that_jumps_reaches_it_in_any_number(name, path, steps):
    # With eta = 1 tcd takes all its noise anew and the model at its word, as lcm does.
    how = Sampling(name, steps, options={"eta": 1.0} if name == "tcd" else {})
    picture = sample(Gaussian(path, jumps=True), how, SIZE, generator=seeded())
    assert abs(picture.mean() - MEAN) < 0.02
    assert abs(picture.std() - DEVIATION) < 0.02


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_flow_map_reaches_it_in_any_number(steps):
    model = GaussianMap()
    assert isinstance(model, FlowMap)
    generator = seeded()
    picture = sample(model, Sampling("flowmap", steps), SIZE, generator=generator)
    noise = torch.randn(SIZE, generator=seeded())
    torch.testing.assert_close(picture, MEAN + DEVIATION * noise, atol=1e-5, rtol=0)
    assert model.asked == steps


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "bridge"])
def test_every_sampler_reaches_the_mode_and_repeats_itself(name):
    """Of a distribution of one picture, guided by maps, from noise and from a picture."""
    model = GaussianMap(jumps=name in ("lcm", "scm", "flow-lcm"))
    how = Sampling(name, 4)
    told = Condition(maps=torch.full((1, 1, 1, 1), 0.2)) if name != "flowmap" else NOTHING
    first = sample(model, how, (2, 1, 32, 32), told, generator=seeded(3))
    assert abs(first.mean() - MEAN - (0.0 if name == "flowmap" else 0.2)) < 0.05
    assert torch.equal(first, sample(model, how, (2, 1, 32, 32), told, generator=seeded(3)))
    assert not torch.equal(first, sample(model, how, (2, 1, 32, 32), told, generator=seeded(4)))
    asked = model.asked
    sample(model, how, start=first, strength=0.5, condition=told, generator=seeded())
    assert model.asked - asked == 4


def test_a_bridge_leads_from_a_picture_in_one_call():
    class Bridge(Gaussian):
        def clean(self, noisy, t, condition=NOTHING):
            self.asked += 1
            assert float(t[0]) == 1.0 or self.asked > 1
            return 0.5 * noisy + 0.25

    source = torch.rand(SIZE, generator=seeded())
    model = Bridge()
    torch.testing.assert_close(sample(model, Sampling("bridge"), start=source), 0.5 * source + 0.25)
    assert model.asked == 1
    # Two steps: half way along the line, then on, with noise of 0.1 sqrt(t (1 - t)) between.
    between = 0.5 * source + 0.5 * (0.5 * source + 0.25)
    twice = sample(model, Sampling("bridge", 2, options={"bridge_noise": 0.1}), start=source, generator=seeded(1))
    noise = torch.randn(SIZE, generator=seeded(1))
    torch.testing.assert_close(twice, 0.5 * (between + 0.05 * noise) + 0.25)
    with pytest.raises(RelightError, match="give it as start"):
        sample(model, Sampling("bridge"), SIZE)
    with pytest.raises(RelightError, match="all the way"):
        sample(Gaussian("vp"), Sampling("bridge"), start=source)


def test_guidance_leads_away():
    here, away = (Condition(maps=torch.full((1, 1, 1, 1), v)) for v in (0.0, 0.1))
    picture = sample(Gaussian(), Sampling("dpm", 20, guidance=3.0), SIZE, here, without=away, generator=seeded())
    # Of Gaussians with equal spread guidance makes another, whose mean is as far again from the unwanted one.
    assert abs(picture.mean() - (MEAN - 0.2)) < 0.02


@pytest.mark.parametrize("name", ["ddim", "dpm", "lcm", "flow", "scm"])
def test_strength_says_how_much_of_the_start_stays(name):
    """Samplers that take all noise anew at each step keep little over many."""
    start = torch.linspace(-1, 1, 100).expand(1, 1, 100, 100).clone()
    anew = name in ("lcm", "scm")
    model, steps = Gaussian(jumps=anew), 2 if anew else 8
    kept = []
    for strength in (0.2, 0.5, 1.0):
        picture = sample(model, Sampling(name, steps), start=start, strength=strength, generator=seeded())
        kept.append(torch.corrcoef(torch.stack([picture.flatten(), start.flatten()]))[0, 1])
    assert kept[0] > 0.8
    assert kept[0] > kept[1] + 0.05 and kept[1] > kept[2] + 0.05 and kept[2] < 0.3, kept


def test_a_step_s_picture_can_be_replaced():
    def ahead(step: int, expected: Tensor) -> Tensor:
        seen.append(step)
        return torch.full_like(expected, 0.7) if step == 3 else expected

    for name in ("ddim", "dpm", "unipc", "lcm", "tcd", "scm", "flow", "flow-lcm"):
        seen: list[int] = []
        picture = sample(Gaussian(), Sampling(name, 4), (1, 1, 8, 8), replace_x0=ahead, generator=seeded())
        assert seen == [0, 1, 2, 3], name
        torch.testing.assert_close(picture, torch.full_like(picture, 0.7), atol=1e-2, rtol=0, msg=name)


def test_the_first_step_can_be_another_model_s():
    """Also of other noise levels: what it says of the state is what it would say of its own."""
    teacher, student = Gaussian("vp", mean=-0.5), Gaussian()
    seen: list[Tensor] = []

    def watch(step: int, expected: Tensor) -> Tensor:
        seen.append(expected)
        return expected

    sample(student, Sampling("flow", 4), SIZE, first=teacher, first_guidance=1.0, replace_x0=watch, generator=seeded())
    assert (teacher.asked, student.asked) == (1, 3)
    assert abs(seen[0].mean() + 0.5) < 0.05 and seen[1].mean() > 0.0


def test_levels_are_the_scheduler_s_own():
    """A model of straight lines, sampled along them, is asked at the scheduler's times about the scheduler's states."""
    asked: list[tuple[float, float]] = []

    class Watched(Gaussian):
        def clean(self, noisy, t, condition=NOTHING):
            asked.append((float(t[0]), float(noisy.std())))
            return super().clean(noisy, t, condition)

    sample(Watched(), Sampling("flow", 4, options={"shift": 3.0}), SIZE, generator=seeded())
    times = [3 * s / (1 + 2 * s) for s in (1.0, 0.75, 0.5, 0.25)]
    assert [t for t, _ in asked] == pytest.approx(times, abs=1e-5)
    picture = sample(Watched(), Sampling("ddim", 4), SIZE, generator=seeded())
    assert [t for t, _ in asked[4:]] == pytest.approx([1.0, 0.75, 0.5, 0.25], abs=1e-3)
    # On its way the state has the variance that pictures with that noise have, but for what few steps lose.
    t = torch.tensor([0.75])
    expected = noised(Gaussian(), MEAN + DEVIATION * torch.randn(SIZE), torch.randn(SIZE), t).std()
    assert asked[5][1] == pytest.approx(float(expected), rel=0.1)
    assert picture.std() < DEVIATION


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"name": "dmp"}, "did you mean 'dpm'"),
        ({"name": "flow", "steps": 0}, "expected 1 or more"),
    ],
)
def test_what_cannot_be_sampled_is_said(how, words):
    with pytest.raises(RelightError, match=words):
        Sampling(**how)


def test_what_a_model_cannot_do_is_said():
    model: Denoiser = Gaussian()
    for how, options, words in [
        (Sampling("flowmap"), {}, "how far a step goes"),
        (Sampling("lcm", 60), {}, "sampler lcm: .*original_steps"),
        (Sampling("ddim", options={"karas": 1}), {}, "DDIMScheduler has no karas"),
        (Sampling("ddim"), {"strength": 0.5}, "only with a start"),
        (Sampling("ddim"), {"start": torch.zeros(1, 3, 8, 8)}, r"\(B, 1, H, W\)"),
    ]:
        with pytest.raises(RelightError, match=words):
            sample(model, how, None if "start" in options else SIZE, **options)


def test_nothing_of_diffusers_is_loaded_before_it_samples():
    code = (
        "import relight.diffusion.samplers, relight.diffusion.public, sys\n"
        "import relight.diffusion.public.diffusers_model, relight.diffusion.public.lora\n"
        "print(*sorted({'diffusers', 'transformers', 'peft', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_closed_forms_are_right():
    """Of the denoiser that all this rests on: means of many pictures behind one noisy value."""
    pictures = MEAN + DEVIATION * torch.randn(1, 1, 1000, 1000, generator=seeded())
    noisy = noised(Gaussian(), pictures, torch.randn(pictures.shape, generator=seeded(1)), torch.tensor([0.5]))
    near = (noisy - 0.4).abs() < 0.05
    expected = Gaussian().clean(torch.full((1, 1, 1, 1), 0.4), torch.tensor([0.5]))
    assert math.isclose(pictures[near].mean(), float(expected), abs_tol=0.01)
