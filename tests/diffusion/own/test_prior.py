"""Our own priors: files, shapes, sampling, and that training teaches and resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from relight.diffusion.own import training
from relight.diffusion.own.batches import Batch, captions
from relight.diffusion.own.flow import flow_loss, step_loss, times
from relight.diffusion.own.network import Config, Network, PriorError, indices
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.views import draw as draw_views
from relight.diffusion.own.tasks import MAPS, TASKS, Task, condition_maps
from relight.diffusion.own.training import Plan, Training, drawn, train
from relight.diffusion.protocol import NOTHING, Condition, Denoiser, guided, noise_in, noised
from relight.images import read_image

pytest.importorskip("diffusers", reason="networks need diffusers")

TINY = Config("material", 2, 3, ("red", "metal"), (16, 16), 2, (16, 32), 8, 16)


@pytest.fixture(scope="module")
def prior() -> Prior:
    torch.manual_seed(0)
    return Prior(Network(TINY), {"pictures": "0"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(count: int, generator: torch.Generator) -> Batch:
    """Pictures of one brightness, which the maps tell."""
    value = torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1
    picture, maps = value.expand(-1, 2, 16, 16), value.expand(-1, 3, 16, 16)
    return Batch(picture, maps, torch.full((count, 2), -1), torch.ones(count, 1, 16, 16))


def test_a_prior_survives_its_file(prior: Prior, tmp_path: Path) -> None:
    prior.save(tmp_path / "p.safetensors")
    back = Prior.load(tmp_path / "p.safetensors")
    assert back.config == prior.config and back.info == {"pictures": "0"}
    x, t = torch.randn(1, 2, 16, 16, generator=generator()), torch.tensor([0.7])
    torch.testing.assert_close(back.clean(x, t), prior.clean(x, t), atol=5e-3, rtol=5e-2)


def test_files_that_are_no_priors_are_refused(prior: Prior, tmp_path: Path) -> None:
    with pytest.raises(PriorError, match="neither a file nor one that comes with relight"):
        Prior.load("no-such-prior")
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 100)
    with pytest.raises(PriorError, match="not the weights of a prior"):
        Prior.load(tmp_path / "junk.safetensors")
    prior.save(tmp_path / "p.safetensors")
    data = bytearray((tmp_path / "p.safetensors").read_bytes())
    changed = bytes(data).replace(b'\\"detail\\": 8', b'\\"detail\\": 9')
    assert changed != data
    (tmp_path / "changed.safetensors").write_bytes(changed)
    with pytest.raises(PriorError, match="don't fit"):
        Prior.load(tmp_path / "changed.safetensors")


def test_it_is_a_denoiser_of_any_size(prior: Prior) -> None:
    assert isinstance(prior, Denoiser)
    for height, width in ((16, 16), (15, 22), (32, 8)):
        x, maps = torch.randn(2, 2, height, width), torch.randn(2, 3, height, width)
        out = prior.clean(x, torch.tensor([0.2, 0.9]), Condition(maps, prior.tokens(["red"], 2)))
        assert out.shape == x.shape and bool(out.isfinite().all())
    with pytest.raises(PriorError, match="expected maps"):
        prior.clean(torch.randn(1, 2, 16, 16), torch.ones(1), Condition(torch.randn(1, 4, 16, 16)))
    with pytest.raises(PriorError, match="expected pictures"):
        prior.clean(torch.randn(1, 3, 16, 16), torch.ones(1))


def test_words_outside_the_vocabulary_are_refused_with_it(prior: Prior) -> None:
    assert indices(["metal"], TINY.words) == [1]
    with pytest.raises(PriorError, match="'velvet'; it knows red, metal"):
        prior.tokens(["velvet"])


def test_noise_goes_in_and_comes_out(prior: Prior) -> None:
    x, noise, t = torch.randn(3, 2, 8, 8), torch.randn(3, 2, 8, 8), torch.tensor([0.1, 0.5, 1.0])
    torch.testing.assert_close(noise_in(prior, noised(prior, x, noise, t), x, t), noise)


def test_guidance_leads_away_from_what_is_expected_without(prior: Prior) -> None:
    x, t = torch.randn(1, 2, 16, 16), torch.tensor([0.5])
    told = Condition(torch.ones(1, 3, 16, 16))
    a, b = prior.clean(x, t, told), prior.clean(x, t, NOTHING)
    torch.testing.assert_close(guided(prior, x, t, told, scale=3), b + 3 * (a - b))
    torch.testing.assert_close(guided(prior, x, t, told), a)


class Exact:
    """A network that knows the one picture there is."""

    config = TINY

    def __init__(self, picture: Tensor):
        self.picture = picture

    def __call__(self, noisy: Tensor, t: Tensor, step: Tensor, maps: Tensor, tokens: Tensor) -> Tensor:
        return self.picture.expand_as(noisy)


def test_losses_are_nothing_for_a_network_that_knows(prior: Prior) -> None:
    batch = flat(4, generator())
    known = Exact(batch.picture)
    arguments = (batch.picture, batch.maps, torch.zeros(4, 2, 16), batch.weight)
    assert float(flow_loss(known, *arguments, generator())) == 0  # type: ignore[arg-type]
    for seed in range(8):
        assert float(step_loss(known, known, *arguments, generator(seed))) < 1e-6  # type: ignore[arg-type]
    wrong = Exact(batch.picture + 1)
    assert float(flow_loss(wrong, *arguments, generator())) > 0.5  # type: ignore[arg-type]
    assert float(step_loss(wrong, known, *arguments, generator())) > 0.5  # type: ignore[arg-type]


def test_what_is_expected_is_one_call_without_noise(prior: Prior) -> None:
    told = Condition(torch.ones(2, 3, 16, 16))
    expected = prior.expected(told, (2, 16, 16))
    assert torch.equal(expected, prior.expected(told, (2, 16, 16))) and expected.shape == (2, 2, 16, 16)
    torch.testing.assert_close(expected, prior.clean(torch.zeros(2, 2, 16, 16), torch.ones(2), told).clamp(-1, 1))


def test_sampling_reaches_what_every_step_aims_at(prior: Prior) -> None:
    target = torch.full((2, 2, 16, 16), 0.25)
    for steps in (1, 2, 7):
        out = prior.sample(NOTHING, (2, 16, 16), steps=steps, between=lambda x: target, generator=generator())
        torch.testing.assert_close(out, target)
    one = prior.sample(NOTHING, (1, 16, 16), steps=3, generator=generator(4))
    assert torch.equal(one, prior.sample(NOTHING, (1, 16, 16), steps=3, generator=generator(4)))


@pytest.fixture
def tiny(monkeypatch) -> None:
    monkeypatch.setitem(training.TASKS, "material", Task(lambda: TINY, "tiny"))


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_training_learns_what_the_maps_tell(tmp_path: Path) -> None:
    made = train("material", flat, Plan(pictures=16 * 70, batch=16, rate=6e-3), tmp_path, torch.device("cpu"))
    batch = flat(8, generator(9))
    for steps in (1, 4):
        out = made.sample(Condition(batch.maps), (8, 16, 16), steps=steps, generator=generator())
        assert float((out - batch.picture).abs().mean()) < 0.15
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert lines[-1]["done"] == 1 and lines[-1]["pictures"] == 1120
    assert (tmp_path / "loss.png").stat().st_size > 1000
    shown = read_image(tmp_path / "samples.png").rgb
    assert shown.shape == (4 * 16, 8 * 16, 3)
    _, truth, expected, _ = shown.view(4, 16, 128, 3)
    assert (expected - truth).abs().mean() < 0.1 < truth.std()
    assert Prior.load(tmp_path / "prior.safetensors").info["pictures"] == "1120"


@pytest.mark.usefixtures("tiny")
def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    plan = Plan(pictures=16 * 5, batch=16)
    whole = train("material", flat, plan, tmp_path / "whole", torch.device("cpu"))
    with pytest.raises(StoppedError):
        train("material", interrupted(3), plan, tmp_path / "parts", torch.device("cpu"))
    half = Prior.load(tmp_path / "parts" / "prior.safetensors")
    assert int(half.info["pictures"]) < 16 * 5
    parts = train("material", flat, plan, tmp_path / "parts", torch.device("cpu"))
    for a, b in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def interrupted(after: int):
    """Batches of which drawing the one after some fails as if the user had stopped there."""

    def draw(count: int, g: torch.Generator) -> Batch:
        if g.initial_seed() >= after:
            raise StoppedError
        return flat(count, g)

    return draw


class StoppedError(Exception):
    pass


def test_batches_drawn_aside_are_those_of_the_seed_and_their_errors_arrive() -> None:
    source = drawn(flat, Plan(pictures=1, batch=2, reuse=2, seed=5), first=0)
    first = [next(source) for _ in range(4)]
    assert first[0] is first[1] and first[2] is not first[1]
    assert torch.equal(first[2].picture, flat(2, generator(5 * 104729 + 1)).picture)
    source.close()  # type: ignore[attr-defined]
    failing: Iterator[Batch] = drawn(interrupted(0), Plan(pictures=1), first=0)
    with pytest.raises(StoppedError):
        next(failing)


def test_words_are_taught_where_nothing_else_tells(tmp_path: Path) -> None:
    views = draw_views(12, 16, 5)
    batch = captions(views)(64, generator())
    photo, hints = batch.maps[:, :3], batch.maps[:, 8:20]
    assert not photo.any() and not hints.any() and (batch.words >= 0).any(1).float().mean() > 0.8
    assert batch.picture.std() > 0.1
    assert float(times(1000, generator(), torch.device("cpu"), 0.65).min()) >= 0.65
    state = Training(Network(TINY), Plan(pictures=100, batch=10, least=0.65), tmp_path, torch.device("cpu"))
    assert set(state.losses(flat(4, generator()), generator())) == {"flow loss"}


def test_done_follows_time_and_pictures(tmp_path: Path) -> None:
    state = Training(Network(TINY), Plan(pictures=100, minutes=1, batch=10), tmp_path, torch.device("cpu"))
    state.pictures = 50
    assert state.done == 0.5
    state.seconds = 45.0
    assert state.done == 0.75


def test_maps_say_what_is_given() -> None:
    photo = torch.rand(2, 3, 8, 8)
    maps = condition_maps(photo=photo, mask=torch.ones(2, 1, 8, 8))
    assert maps.shape == (2, MAPS, 8, 8)
    torch.testing.assert_close(maps[:, :3], 2 * photo - 1)
    assert maps[:, -3:, 0, 0].tolist() == [[1, 0, 0]] * 2 and float(maps[:, 4:20].abs().max()) == 0
    assert all(task.config().maps == MAPS for name, task in TASKS.items() if name in ("material", "relight"))


def test_panoramas_meet_at_their_sides() -> None:
    torch.manual_seed(1)
    around = Prior(Network(Config("panorama", 2, 3, (), (16, 32), 2, (16, 32), 8, 16, around=True)))
    x, t = torch.randn(1, 2, 16, 32), torch.tensor([0.5])
    turned = around.clean(x.roll(8, 3), t).roll(-8, 3)
    torch.testing.assert_close(turned, around.clean(x, t), atol=1e-4, rtol=1e-3)
    assert not math.isclose(float((turned - around.clean(x.flip(3), t)).abs().max()), 0)
