"""Panoramas from photographs, with models that know the answer, know nothing, or have seams."""

from __future__ import annotations

import pytest
import torch

from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.protocol import NOTHING, Condition, Denoiser
from relight.diffusion.surroundings.framing import Frame, map_directions, photographed, resized_map
from relight.diffusion.surroundings.light_edit import drawn
from relight.diffusion.surroundings.panorama import DiffusionPanorama, PanoramaEstimator, with_photo
from relight.diffusion.surroundings.sphere_metrics import ConstantMean, MirroredCrop, sphere_scores
from relight.errors import RelightError, ShapeError
from relight.shading.color import luminance
from relight.shading.encoding import encode


class Flow:
    """Straight paths; what is clean is what `answer` says."""

    channels = 6

    def __init__(self, answer):
        self.answer = answer

    def rates(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 1 - t, t

    def clean(self, noisy: torch.Tensor, t: torch.Tensor, condition: Condition = NOTHING) -> torch.Tensor:
        return self.answer(noisy, condition)


def knows(truth: torch.Tensor) -> Flow:
    picture = torch.cat(encode(truth), -1).permute(2, 0, 1)[None] * 2 - 1
    return Flow(lambda noisy, told: picture.expand_as(noisy))


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    radiance = environment(torch.Generator().manual_seed(11), rows=128, kind="room")
    # One light that is brighter than all others.
    radiance = radiance + drawn(torch.tensor([-0.6, 0.5, 0.62]), 200.0, 2 * radiance.mean((0, 1)), 128)
    return radiance / luminance(radiance).median() * 0.2


def test_a_model_that_knows_the_answer_gives_it(truth):
    frame = Frame.of(60, 4 / 3)
    photo = photographed(truth, frame, 120, 160)[0].clamp(0, 1)
    estimator = DiffusionPanorama(knows(resized_map(truth, 32)))
    assert isinstance(estimator, PanoramaEstimator) and isinstance(estimator.model, Denoiser)
    found = estimator.estimate(photo, frame, rows=64)
    assert found.shape == (64, 128, 3) and float(found.min()) >= 0
    assert float((resized_map(found, 16).log1p() - resized_map(truth, 16).log1p()).abs().mean()) < 0.02
    scores = sphere_scores(found, truth)
    for baseline in (ConstantMean(), MirroredCrop()):
        other = sphere_scores(baseline.estimate(photo, frame), truth)
        for sphere in ("mirror", "matte silver", "diffuse"):
            assert scores[sphere]["si_rmse"] < 0.5 * other[sphere]["si_rmse"]
    assert scores["peak"]["degrees"] < 4


def test_the_photograph_is_kept_where_it_is_not_clipped_and_a_bound_where_it_is():
    dark = torch.full((64, 128, 3), 0.01)
    photo = torch.full((90, 120, 3), 0.4)
    photo[:, :60] = 1.0
    frame = Frame.of(80, 4 / 3)
    found = with_photo(dark, photo, frame)
    middle = found[30:34]
    assert torch.allclose(middle[:, 66:74], torch.tensor(0.4), atol=0.02)
    assert torch.allclose(middle[:, 54:62], torch.tensor(1.0), atol=0.02)
    # A lamp that the model puts behind white pixels stays as bright as it is.
    bright = with_photo(torch.full((64, 128, 3), 50.0), photo, frame)[30:34]
    assert torch.allclose(bright[:, 54:62], torch.tensor(50.0), rtol=0.01)
    assert torch.allclose(bright[:, 66:74], torch.tensor(0.4), atol=0.02)
    assert torch.equal(found[:, 100:], dark[:, 100:])
    # No edge: from one pixel to the next it changes by no more than fading takes.
    assert float((middle[:, 1:, 0] - middle[:, :-1, 0])[:, 70:].abs().max()) < 0.25


def test_steps_hold_what_the_photograph_says():
    """A model that ignores the photograph is corrected in every step."""
    asked = []

    def ignorant(noisy, told):
        asked.append(told.maps)
        return torch.zeros_like(noisy)

    photo = torch.full((60, 60, 3), 0.5)
    found = DiffusionPanorama(Flow(ignorant), steps=3, draws=2).estimate(photo, Frame.of(70), rows=32)
    assert len(asked) == 3 and asked[0].shape == (2, 5, 32, 64)
    assert torch.allclose(found[15:17, 31:33], torch.tensor(0.5), atol=0.01)
    assert not torch.allclose(found[16, 0], torch.tensor(0.5), atol=0.05)


def test_seeds_and_draws():
    noisy = Flow(lambda noisy, told: (0.3 * noisy).clamp(-1, 1))
    photo, frame = torch.full((20, 20, 3), 0.3), Frame.of(50)
    one, same, other = (DiffusionPanorama(noisy, steps=2, seed=s).estimate(photo, frame) for s in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    many = DiffusionPanorama(noisy, steps=2, draws=16).estimate(photo, frame)
    assert float(many[:, :30].std()) < 0.5 * float(one[:, :30].std())


def test_wrapping_hides_the_seam_of_a_model_that_has_one():
    kernel = torch.ones(6, 1, 9, 9) / 81

    def blur(noisy, told):
        return torch.nn.functional.conv2d(noisy, kernel, padding=4, groups=6)

    def seam(wrap: int) -> float:
        picture = DiffusionPanorama(Flow(blur), steps=1, wrap=wrap).estimate(
            torch.full((8, 8, 3), 0.2), Frame.of(40), 32
        )
        log = picture.log()
        return float((log[:, 0] - log[:, -1]).abs().mean() / (log[:, 1:] - log[:, :-1]).abs().mean())

    assert seam(8) < 1.5 < seam(0)


def test_a_partial_panorama_is_completed_around_what_is_known(truth):
    rows = 64
    partial = resized_map(truth, rows)
    known = torch.zeros(rows, 2 * rows)
    known[20:44, 100:] = 1
    known[20:44, :12] = 1
    # What the model is told is turned so that what is known is in the middle.
    seen = []

    def grey(noisy, told):
        seen.append(told.maps)
        return torch.zeros_like(noisy)

    found = DiffusionPanorama(Flow(grey)).complete(partial * known[..., None], known)
    inner = torch.zeros_like(known, dtype=torch.bool)
    inner[24:40, 104:] = True
    inner[24:40, :8] = True
    assert torch.allclose(found[inner], partial[inner], rtol=1e-4)
    assert float(found[known == 0].min()) > 0
    columns = torch.where(seen[0][0, 3].sum(0) > 0)[0]
    assert abs(float(columns.float().mean()) - 31.5) < 1.5
    with pytest.raises(RelightError, match="nothing of it is known"):
        DiffusionPanorama(Flow(grey)).complete(partial, torch.zeros_like(known))
    with pytest.raises(ShapeError):
        DiffusionPanorama(Flow(grey)).complete(partial, known[:10])


def test_resizing_goes_around_and_keeps_means():
    d = map_directions(32)
    smooth = 1 + 0.5 * d
    big = resized_map(smooth, 128)
    assert big.shape == (128, 256, 3)
    assert torch.allclose(big[8:-8], 1 + 0.5 * map_directions(128)[8:-8], atol=0.02)
    spiky = torch.rand(64, 128, 3, generator=torch.Generator().manual_seed(0)) ** 8 * 100
    assert torch.allclose(resized_map(spiky, 16).mean((0, 1)), spiky.mean((0, 1)), rtol=1e-4)


def test_models_of_something_else_and_pictures_that_are_none_are_refused():
    wrong = Flow(lambda noisy, told: noisy)
    wrong.channels = 3
    with pytest.raises(RelightError, match="6 channels, found one of 3"):
        DiffusionPanorama(wrong)
    with pytest.raises(ShapeError, match="photo"):
        ConstantMean().estimate(torch.zeros(4, 4), Frame.of(60))
    with pytest.raises(RelightError, match="at least one step"):
        DiffusionPanorama(Flow(None), steps=0)
