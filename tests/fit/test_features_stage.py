"""Stage features end to end, with a teacher whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from table_scene import photographed_table, table_scene
from torch.nn.functional import normalize

from relight.errors import MissingPartError, RelightError
from relight.fit.teachers import FeatureExtractor
from relight.scene import FeatureBasis, Scene
from relight.scene_io import load_scene, read_manifest, save_scene
from relight.stages.features import Features
from relight.testing.job import MemoryJob

TEACHER = f"{__name__}:Colors"


class Colors:
    """Says of each 4 x 4 pixels which of 40 directions its colour is, so that things of one colour feel alike."""

    name, levels = "colors", (40,)

    def __init__(self) -> None:
        self.words = torch.randn(3, 40, generator=torch.Generator().manual_seed(5))

    def __call__(self, rgb):
        small = torch.nn.functional.avg_pool2d(rgb.permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
        return normalize((small - 0.5) @ self.words, dim=-1)


@pytest.fixture(scope="module")
def photographed(tmp_path_factory) -> tuple[Scene, torch.Tensor]:
    return photographed_table(tmp_path_factory.mktemp("photos"))


def test_things_of_one_colour_feel_alike(photographed, tmp_path):
    scene, of = photographed
    job = MemoryJob(tmp_path)
    result = Features(teacher=TEACHER, size=64, channels=3).run(scene, job)
    assert result.gaussians is not None and result.feature_basis is not None
    feature = result.gaussians.channels["feature"]
    assert feature.dtype == torch.float16 and feature.shape == (len(of), 3)
    assert job.metrics["explained"] > 0.98 and job.metrics["cosine"] > 0.9
    assert job.reports[-1][0] == job.reports[-1][1] == 20
    unit = normalize(feature.float(), dim=1)
    red, blue = unit[of == 1], unit[of == 2]
    # Not 1: where a ball stands on the table, the teacher's 4 x 4 pixels show some of both.
    assert (red @ red.T).mean() > 0.95 and (red @ blue.T).mean() < 0.3
    # The basis says what the teacher would.
    color = torch.tensor([0.8, 0.1, 0.1]).expand(4, 4, 3)
    said, wide = Colors()(color)[0, 0], result.feature_basis.widened(feature[of == 1]).mean(0)
    assert torch.cosine_similarity(said, wide, 0) > 0.95
    basis = result.feature_basis
    back = (basis.widened(feature) - basis.mean) @ basis.directions.T
    torch.testing.assert_close(back, feature.float(), rtol=1e-3, atol=1e-3)


def test_refinement_agrees_better_with_the_teacher(photographed, tmp_path):
    scene, _ = photographed
    plain, refined = MemoryJob(tmp_path), MemoryJob(tmp_path)
    Features(teacher=TEACHER, size=64, channels=2).run(scene, plain)
    Features(teacher=TEACHER, size=64, channels=2, refine=60).run(scene, refined)
    assert refined.metrics["cosine"] > plain.metrics["cosine"] + 0.005


def test_what_features_mean_is_kept_with_the_scene(tmp_path):
    scene, _ = table_scene()
    basis = FeatureBasis(torch.randn(7), torch.randn(2, 7), "clip", "some/name")
    with_basis = replace(scene, feature_basis=basis, views=None)
    for name, each in (("with", with_basis), ("without", replace(scene, views=None))):
        (tmp_path / name).mkdir()
        save_scene(each, tmp_path / name, key="k")
    found = load_scene(tmp_path / "with").feature_basis
    assert found is not None and (found.teacher, found.source) == ("clip", "some/name")
    assert torch.equal(found.mean, basis.mean) and torch.equal(found.directions, basis.directions)
    # What earlier versions can read says so.
    assert read_manifest(tmp_path / "with")["schema"] == 3 and read_manifest(tmp_path / "without")["schema"] == 1
    assert load_scene(tmp_path / "without").feature_basis is None


def test_what_is_missing_is_explained(photographed, tmp_path):
    scene, _ = photographed
    with pytest.raises(MissingPartError, match="radiance"):
        Features(teacher=TEACHER).run(replace(scene, gaussians=None), MemoryJob(tmp_path))
    with pytest.raises(MissingPartError, match="training views"):
        Features(teacher=TEACHER).run(replace(scene, views=None), MemoryJob(tmp_path))
    with pytest.raises(RelightError, match="unknown teacher"):
        Features(teacher="eficientnet").run(scene, MemoryJob(tmp_path))
    with pytest.raises(ValueError, match="source"):
        Features(teacher="dino")
    assert isinstance(Colors(), FeatureExtractor)
