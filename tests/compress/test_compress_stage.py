"""Stage `compress` on small splats: it keeps its targets, its looks, and its place after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from small_splats import ball

from relight.compress import codec, curve
from relight.compress.cameras import around
from relight.compress.lattice import Lattice
from relight.compress.looks import Looks
from relight.compress.recover import Student, Teacher
from relight.compress.score import Judge, Score
from relight.compress.search import Rung, Target, Task, amount, next_task
from relight.data import load
from relight.errors import MissingPartError, RelightError
from relight.formats import FORMATS, read_splat
from relight.formats.common import plain
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer
from relight.scene import Frame, Scene
from relight.stages.base import Interrupted
from relight.stages.compress import Compress
from relight.testing.capture import write_capture
from relight.testing.job import MemoryJob

QUICK = {"cameras": 6, "view_size": 40, "views": 3, "iterations": 12, "polish": 12, "between": 1, "bits": "usual"}
SOG = FORMATS["sog"]


def compressed(folder, splat, scene=None, **options):
    scene = scene or Scene(Frame((0.0, 0.0, 0.0), 1.0), gaussians=splat)
    job = MemoryJob(folder)
    result = Compress(**{**QUICK, **options}).run(scene, job)
    rungs, summary = curve.read(folder)
    assert result.gaussians is not None
    return result.gaussians, rungs[summary["chosen"]], folder / summary["file"], job


def witnesses(splat, seed=0):
    looks = Looks(create_rasterizer(), RasterOptions())
    cameras = around(splat, 8, size=40, seed=seed)
    teacher = Teacher(splat, cameras, looks, torch.zeros(3))
    return teacher, Judge(splat, around(splat, 4, size=40, seed=seed + 1), looks)


def test_a_drop_is_kept_to_and_the_scene_has_what_the_file_has(tmp_path):
    splat = ball(500)
    result, chosen, file, job = compressed(tmp_path, splat, max_psnr_drop=0.5)
    assert chosen.packed.drop <= 0.5 and chosen.count < 450
    assert file.stat().st_size == chosen.size < 12_000
    read = read_splat(file)
    for name, value in read.tensors().items():
        torch.testing.assert_close(result.tensors()[name].sort(0).values, value.sort(0).values)
    assert job.metrics["bytes"] == chosen.size and (tmp_path / curve.DRAWING).read_bytes().startswith(b"<?xml")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_size_is_kept_to(tmp_path):
    *_, file, _ = compressed(tmp_path, ball(500, degree=1), max_size="4kB", bits="measured")
    assert file.stat().st_size <= 4000


@pytest.mark.parametrize(("bits", "least"), [("measured", 5000), ("full", 4000)])
def test_a_size_is_kept_to_and_used_by_spz(tmp_path, bits, least):
    """With coarser bits; without, by how many Gaussians fit."""
    _, chosen, file, _ = compressed(tmp_path, ball(500, degree=1), max_size="6kB", format="spz", bits=bits)
    assert least < file.stat().st_size == chosen.size <= 6000
    assert read_splat(file).sh_degree == chosen.degree


def test_a_size_that_nothing_fits_is_said(tmp_path):
    with pytest.raises(RelightError, match=r"max_size 300: too small; the smallest tried: .* Gaussians in .* bytes"):
        compressed(tmp_path, ball(150), max_size=300, format="spz")


def test_a_count_is_kept_to(tmp_path):
    result, chosen, *_ = compressed(tmp_path, ball(400), count="0.15k", format="spz")
    assert len(result) == chosen.count == 150


def test_materials_keep_their_meaning(tmp_path):
    splat = ball(300, materials=True)
    found, *_ = compressed(tmp_path, splat, count=250)
    metal = found.channels["metallic"][found.means[:, 1] > 0.1]
    assert set(found.channels) == set(splat.channels) and float((metal > 0.8).float().mean()) > 0.95
    assert float((found.channels["normal"] * found.means).sum(1).mean()) > 0.95


@pytest.mark.parametrize("photographed", [False, True])
def test_features_that_a_file_has_no_place_for_do_not_count(photographed, tmp_path):
    splat = ball(300, materials=True)
    feature = torch.rand(300, 7, generator=torch.Generator().manual_seed(0)).half()
    splat = replace(splat, channels={**splat.channels, "feature": feature})
    scene = load(write_capture(tmp_path / "capture", views=8, size=32), test_every=4) if photographed else None
    scene = scene and replace(scene, gaussians=splat)
    with pytest.warns(UserWarning, match="has no place for feature"):
        result, chosen, *_ = compressed(tmp_path, splat, scene, count=200)
    assert len(result) == chosen.count == 200 and "metallic" in result.channels


def test_photographs_judge_where_there_are_some(tmp_path):
    scene = load(write_capture(tmp_path / "capture", views=8, size=32), test_every=4)
    splat = ball(400)
    result, chosen, _, job = compressed(tmp_path, splat, replace(scene, gaussians=splat), max_psnr_drop=0.3)
    assert job.metrics["test_psnr"] == pytest.approx(chosen.packed.psnr)
    # What is fitted further may gain.
    assert chosen.packed.drop <= 0.3 and len(result) < 400


@pytest.mark.parametrize("bits", ["usual", "measured"])
def test_an_interrupted_compression_ends_as_one_that_was_not(tmp_path, bits):
    splat = ball(200)
    scene = Scene(Frame((0.0, 0.0, 0.0), 1.0), gaussians=splat)
    stage = Compress(**{**QUICK, "bits": bits, "count": 120})
    whole = stage.run(scene, MemoryJob(tmp_path)).gaussians
    for stop in (5, 30):  # in a fit or while bits are measured, and in the last fit or the first
        job = MemoryJob(tmp_path, stop_at=stop)
        with pytest.raises(Interrupted):
            stage.run(scene, job)
        assert job.saved is not None and json.dumps(job.saved.values)
        again = stage.run(scene, MemoryJob(tmp_path, restored=job.saved)).gaussians
        assert whole is not None and again is not None
        for name, value in whole.tensors().items():
            assert torch.equal(value, again.tensors()[name]), (stop, name)


def test_recovery_mends_what_pruning_broke():
    splat = ball(500)
    teacher, judge = witnesses(splat)
    student = Student(splat[torch.arange(500) % 3 > 0], 1.0)
    broken = judge.score(student.gaussians()).psnr
    generator = torch.Generator().manual_seed(0)
    for i in range(60):
        student.step(teacher, i / 60, generator)
    assert judge.score(student.gaussians()).psnr > broken + 2


def test_distilled_sh_look_more_like_their_teacher_than_cut_ones():
    splat = ball(300, degree=2)
    splat.sh[:, 1:] = 0.15
    teacher, judge = witnesses(splat)
    student = Student(replace(splat, sh=splat.sh[:, :4]), 1.0)
    cut = judge.score(student.gaussians()).psnr
    for i in range(80):
        student.step(teacher, i / 80, torch.Generator().manual_seed(i), pseudo=2 / 3)
    assert judge.score(student.gaussians()).psnr > cut + 0.3


def test_a_file_of_snapped_values_holds_them(tmp_path):
    splat = plain(ball(300, degree=1))
    recipe = codec.usual(SOG, 300)
    lattice = Lattice.of(codec.encode(splat, recipe, SOG, tmp_path / "a.sog"))
    student = Student(splat, 1.0, lattice)
    teacher, _ = witnesses(splat)
    for i in range(10):
        student.step(teacher, i / 10, torch.Generator().manual_seed(i))
    snapped = student.gaussians().detach()
    decoded = codec.encode(snapped, recipe, SOG, tmp_path / "a.sog")
    # Numbers of a palette, which were fitted themselves, are rounded to one of 256.
    for name, rounding in (("log_scales", 2e-3), ("opacities", 2e-3), ("sh", 2e-2)):
        torch.testing.assert_close(getattr(decoded, name), getattr(snapped, name), rtol=1e-4, atol=rounding)
    loose = Student(splat, 1.0).gaussians().detach()
    assert float((loose.opacities - snapped.opacities).abs().max()) > 1e-3


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_measuring_bits_goes_on_where_it_was(tmp_path, share):
    splat, told = plain(ball(400, degree=1)), []
    whole: dict[str, tuple[int, float]] = {}
    first = codec.measure(splat, SOG, tmp_path / "a.sog", lambda g: 0.0, known=whole)
    before = round(share * len(whole))
    known = dict(list(whole.items())[:before])
    again = codec.measure(
        splat,
        SOG,
        tmp_path / "a.sog",
        lambda g: 0.0,
        known=known,
        advance=lambda done, total: told.append((done, total)),
    )
    assert again == first and known == whole
    assert [done for done, _ in told] == [max(n, before) for n in range(1, len(whole) + 1)], "it never goes back"


def test_bits_are_spent_where_they_count(tmp_path):
    splat = plain(ball(400, degree=1))
    _, judge = witnesses(splat)
    before = judge.pictures(splat)
    table = codec.measure(splat, SOG, tmp_path / "a.sog", lambda g: judge.distance(g, before))
    assert set(table.rows) == set(codec.CHOICES["sog"]) - {"material_values", "normal_values"}
    for row in table.rows.values():
        assert row[-1].bytes <= 0 and row[-1].error >= row[0].error
    fine, coarse = (table.within_error(e, 400, 3) for e in (1e-6, 1e-3))
    sizes = []
    for recipe in (fine, coarse):
        codec.encode(splat, recipe, SOG, tmp_path / "a.sog")
        sizes.append((tmp_path / "a.sog").stat().st_size)
    assert sizes[1] < 0.8 * sizes[0]
    assert table.within_bytes(sizes[1], 400, 3) != fine
    assert codec.Table.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_usual_bits_stay_within_what_there_is():
    usual, finer, coarsest = (codec.usual(SOG, 4000, f) for f in (0, 1, -30))
    assert usual["palette_size"] == 1000 and finer["position_bits"] == usual["position_bits"] + 1
    assert coarsest == {name: codec.CHOICES["sog"][name][-1] for name in usual}
    assert codec.usual(FORMATS["ply"], 4000) == {}


@pytest.mark.parametrize(
    ("mended", "polished", "best"),
    [
        (1.0, [(177, 1), (210, 1), (168, 1)], 210),  # a narrow miss that stays one; then the best, and on from there
        (0.8, [(177, 1), (142, 1)], 177),
    ],
)
def test_the_search_descends_then_looks_between_then_polishes(mended, polished, best):
    rungs: list[Rung] = []
    kinds = []
    options = {"visible": 1000, "degree": 1, "keep": 0.5, "between": 2, "lower_degree": True, "polish": 2}
    while (task := next_task(rungs, Target(drop=0.3), **options)) is not None:
        kinds.append((task.kind, task.count, task.degree))
        drop = 60 / task.count * (mended if task.kind == "polish" else 1.0) + (0.5 if task.degree == 0 else 0.0)
        score = Score(30, 0.9, drop)
        size = (9 if task.kind == "polish" else 10) * task.count
        rungs.append(Rung(len(rungs), task.kind, task.count, task.degree, score, score, size, {}))
    assert kinds == [
        ("prune", 500, 1), ("prune", 250, 1), ("prune", 125, 1), ("degree", 250, 0), ("between", 177, 1),
        ("between", 210, 1), *(("polish", *what) for what in polished),
    ]  # fmt: skip
    found = Target(drop=0.3).best(rungs)
    assert found is not None and found.count == best


def test_a_first_trial_that_misses_narrowly_is_polished():
    def trial(kind, count, drop):
        score = Score(30, 0.9, drop)
        return Rung(len(rungs), kind, count, 0, score, score, 10 * count, {})

    rungs: list[Rung] = []
    options = {"visible": 1000, "degree": 0, "keep": 0.5, "between": 2, "lower_degree": True, "polish": 2}
    assert next_task([], Target(count=100), **options) == Task("prune", 500, 0, None)
    rungs.append(trial("prune", 500, 2.0))
    assert next_task(rungs, Target(drop=0.3), **options) == Task("prune", 1000, 0, None)
    rungs.append(trial("prune", 1000, 0.35))
    assert next_task(rungs, Target(drop=0.3), **options) == Task("polish", 1000, 0, 1)
    assert next_task(rungs, Target(drop=0.2), **options) is None, "not narrow"
    assert next_task(rungs, Target(drop=0.3), **{**options, "polish": 0}) is None
    rungs.append(trial("polish", 1000, 0.32))
    assert next_task(rungs, Target(drop=0.3), **options) is None, "once is enough"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"count": 100, "max_size": "5MB"}, "only one target"),
        ({"max_size": "five"}, "expected a number such as 5MB"),
        ({"max_psnr_drop": 0}, "expected more than 0"),
        ({"format": "ksplat"}, "format: expected one of"),
        ({"keep": 0.99}, "keep: expected 0.2 to 0.95"),
    ],
)
def test_wrong_options_are_explained(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Compress(**options)


def test_amounts_are_read_as_people_write_them():
    assert [amount("200k"), amount(150), amount("1.5 MB", "b"), amount("2M")] == [200_000, 150, 1_500_000, 2_000_000]


def test_ended_early_it_gives_what_it_has(tmp_path):
    """Though it does not meet the target."""
    job = MemoryJob(tmp_path, enough_at=3)
    scene = Scene(Frame(), gaussians=ball(150, degree=1))
    options = {"max_psnr_drop": 1e-3, "iterations": 20, "cameras": 4, "views": 2, "view_size": 32, "bits": "usual"}
    found = Compress(**options).run(scene, job).gaussians
    assert found is not None and 0 < len(found) < 150 and (tmp_path / "splat.sog").is_file()


def test_what_cannot_be_met_is_said(tmp_path):
    complaint = r"max_psnr_drop 0.001: not met .* the nearest: .* Gaussians in"
    with pytest.warns(UserWarning, match="no place for SH"), pytest.raises(RelightError, match=complaint):
        compressed(tmp_path, ball(150, degree=1), max_psnr_drop=0.001, format="splat")
    with pytest.raises(MissingPartError, match="no splat"):
        Compress().run(Scene(Frame()), MemoryJob(tmp_path))
