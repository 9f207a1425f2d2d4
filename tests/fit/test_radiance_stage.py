"""Stage radiance end to end on renders of known Gaussians, 48 pixels wide."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from relight.errors import MissingPartError, RelightError
from relight.export.images import write_image
from relight.fit.evaluate import evaluate, means
from relight.fit.losses import normal_consistency, photometric
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at, rigid_from_twist
from relight.render.splats import create_rasterizer, render
from relight.scene import Frame, Points, Scene
from relight.stages.base import Interrupted
from relight.stages.radiance import Radiance, _Fit
from relight.testing.job import MemoryJob
from relight.views import View, Views

SIZE = 48


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Scene:
    """12 training and 4 test views of 200 Gaussians, cut out."""
    folder = tmp_path_factory.mktemp("capture")
    g = torch.Generator().manual_seed(0)
    n = 200
    truth = Gaussians(
        means=0.7 * torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1),
        quats_wxyz=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g) * 0.3 - 2.4,
        logit_opacity=torch.full((n,), 3.0),
        sh=sh.from_constant(torch.rand(n, 3, generator=g))[:, None],
    )
    views = []
    for i in range(16):
        eye = torch.tensor([3 * math.cos(0.4 * i), 1.2 * math.sin(i), 3 * math.sin(0.4 * i)])
        pose = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        camera = Camera(pose, 60.0, 60.0, SIZE / 2, SIZE / 2, SIZE, SIZE)
        image = render(create_rasterizer(), truth, camera)
        straight = image.color / image.alpha[..., None].clamp_min(1e-4)
        write_image(folder / f"{i:02d}.png", torch.cat([straight, image.alpha[..., None]], -1))
        views.append(View(f"{i:02d}", folder / f"{i:02d}.png", camera, "test" if i % 4 == 3 else "train"))
    start = truth.means + 0.05 * torch.randn(n, 3, generator=g)
    return Scene(Frame(radius=1.0), Views(tuple(views)), Points(start, torch.full((n, 3), 0.5)))


def fitted(scene: Scene, folder: Path, **options: Any) -> tuple[float, float]:
    """PSNR of training and of test views."""
    options = {"iterations": 250, "max_gaussians": 400, "refine_every": 25, "sh_degree": 1} | options
    job = MemoryJob(folder)
    result = Radiance(**options).run(scene, job)
    assert job.metrics["gaussians"] <= 400
    assert result.gaussians is not None and result.gaussians.means.isfinite().all()
    assert scene.gaussians is None, "the scene that went in is unchanged"
    return job.metrics["train_psnr"], job.metrics["test_psnr"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"density": "mcmc", "initial_opacity": 0.5},
        {"primitive": "surfel"},
        {"antialiased": True, "filter_3d": True},
        {"exposure": True, "background": "white"},
        {"reset_every": 100},
    ],
    ids=str,
)
def test_fits_known_gaussians(capture, tmp_path, options):
    start = means(evaluate(replace(capture, gaussians=_grey(capture)), create_rasterizer()))["psnr"]
    train, test = fitted(capture, tmp_path, **options)
    if options.get("primitive") == "surfel":
        # Twelve small pictures don't say how a disc is turned: what it predicts between them is poor.
        assert train > start + 0.5
    else:
        assert test > start + 4


def test_ended_early_it_gives_what_it_has(capture, tmp_path):
    job = MemoryJob(tmp_path, enough_at=60)
    early = Radiance(iterations=1000, max_gaussians=400).run(capture, job)
    assert [step for step, total, _ in job.reports][-2:] == [60, 60] and job.metrics["test_psnr"] > 5
    assert early.gaussians is not None and early.gaussians.means.isfinite().all()


def test_normal_weight_lays_gaussians_into_the_surface(capture, tmp_path):
    """The same fit with the weight ends with normals closer to those of its depth, seen from a test view."""
    loss = []
    for weight in (0.0, 0.2):
        job = MemoryJob(tmp_path)
        options: dict[str, Any] = {"iterations": 250, "max_gaussians": 400, "refine_every": 25, "sh_degree": 1}
        scene = Radiance(normal_weight=weight, **options).run(capture, job)
        assert scene.gaussians is not None and scene.views is not None
        camera = scene.views.test.camera(0)
        with torch.no_grad():
            image = render(create_rasterizer(), scene.gaussians, camera, normals=True)
        loss.append(float(normal_consistency(image, camera)))
    assert loss[1] < 0.8 * loss[0]


def _grey(capture: Scene) -> Gaussians:
    assert capture.points is not None
    n = len(capture.points.positions)
    return Gaussians(
        means=capture.points.positions,
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=torch.full((n, 3), -2.4),
        logit_opacity=torch.zeros(n),
        sh=sh.from_constant(capture.points.colors)[:, None],
    )


def same_after_interruption(stage: Radiance, capture: Scene, whole: Scene, folder: Path, *, stopped_at: int) -> None:
    """Asked to stop at step 33 it saves at `stopped_at`, and goes on to the same bits."""
    first = MemoryJob(folder, stop_at=33)
    with pytest.raises(Interrupted):
        stage.run(capture, first)
    assert first.saved is not None and first.saved.step == stopped_at
    again = stage.run(capture, MemoryJob(folder, restored=first.saved)).gaussians
    assert whole.gaussians is not None and again is not None
    for name, value in whole.gaussians.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name


@pytest.mark.parametrize("density", ["default", "mcmc"])
def test_interrupted_and_continued_gives_the_same_bits(capture, tmp_path, density):
    options: dict[str, Any] = {
        "iterations": 60,
        "max_gaussians": 300,
        "refine_every": 10,
        "filter_3d": True,
        "exposure": True,
    }
    stage = Radiance(density=density, refine_cameras=True, **options)
    same_after_interruption(stage, capture, stage.run(capture, MemoryJob(tmp_path)), tmp_path, stopped_at=33)


def test_wrong_cameras_are_found(capture, tmp_path):
    """Cameras moved by a few pixels: refinement must gain what they cost."""
    g = torch.Generator().manual_seed(3)
    moved = []
    for view in capture.views:
        if view.split == "train":
            twist = torch.cat([0.04 * torch.randn(3, generator=g), 0.01 * torch.randn(3, generator=g)])
            view = replace(
                view,
                camera=replace(view.camera, world_from_camera=view.camera.world_from_camera @ rigid_from_twist(twist)),
            )
        moved.append(view)
    scene = replace(capture, views=Views(tuple(moved)))
    options: dict[str, Any] = {"iterations": 400, "rate_cameras": 1e-3}
    losses = {}
    for refine in (False, True):
        job = MemoryJob(tmp_path)
        Radiance(max_gaussians=400, sh_degree=0, refine_cameras=refine, **options).run(scene, job)
        losses[refine] = job.metrics["train_psnr"]
    assert losses[True] > losses[False] + 1


def test_masked_pixels_are_ignored(capture, tmp_path):
    """Half of each photograph is replaced by noise that a mask marks as unusable."""
    views = []
    for view in capture.views:
        photo = view.photo()
        assert photo.alpha is not None
        noisy = photo.rgb * photo.alpha[..., None]
        mask = torch.ones(SIZE, SIZE)
        if view.split == "train":
            noisy[:, :10] = torch.rand(SIZE, 10, 3)
            mask[:, :10] = 0
        write_image(tmp_path / f"{view.name}.png", noisy)
        write_image(tmp_path / f"{view.name}_mask.png", mask[..., None].expand(-1, -1, 3))
        files = {"image_path": tmp_path / f"{view.name}.png", "mask_path": tmp_path / f"{view.name}_mask.png"}
        views.append(replace(view, mask_is_alpha=False, **files))
    scene = replace(capture, views=Views(tuple(views)))
    assert fitted(scene, tmp_path, background="black")[1] > 20


def test_missing_parts_are_named(capture, tmp_path):
    with pytest.raises(MissingPartError, match="points"):
        Radiance().run(replace(capture, points=None), MemoryJob(tmp_path))
    with pytest.raises(MissingPartError, match="views"):
        Radiance().run(replace(capture, views=None), MemoryJob(tmp_path))


TOGETHER: dict[str, Any] = {
    "processes": 2, "iterations": 60, "max_gaussians": 300, "refine_every": 10, "filter_3d": True, "exposure": True,
    "refine_cameras": True,
}  # fmt: skip


def test_the_first_step_of_two_processes_is_along_the_mean_gradient(capture, tmp_path):
    """Adam's first step is rate x sign of the gradient: the mean over two photographs of gradients taken alone."""
    options: dict[str, Any] = {"max_gaussians": 200, "sh_degree": 0, "background": "black", "coarse_until": 0.0}
    stage = Radiance(iterations=2, processes=2, **options)
    found = stage.run(capture, MemoryJob(tmp_path)).gaussians
    alone = _Fit(Radiance(iterations=2, **options), capture, MemoryJob(tmp_path))
    before = {name: value.detach().clone() for name, value in alone.parameters.tensors.items()}
    order = torch.randperm(12, generator=alone.generator)
    total = {name: torch.zeros_like(value) for name, value in before.items()}
    for index in order[:2]:
        photo, camera = alone.views.photo(int(index)), alone.views.camera(int(index))
        target, background = alone._target(photo)
        image = render(alone.rasterizer, alone._gaussians(0), camera, options=alone.raster, background=background)
        loss = photometric(image.color.permute(2, 0, 1), target.permute(2, 0, 1), stage.dssim_weight, photo.mask)
        loss = loss + stage.opacity_weight * torch.sigmoid(alone.parameters["logit_opacity"]).mean()
        loss = loss + stage.scale_weight * alone.parameters["log_scales"].exp().mean() / alone.radius
        loss.backward()
    for name, tensor in alone.parameters.tensors.items():
        if tensor.grad is not None:
            total[name] = tensor.grad / 2
    assert found is not None
    for name, rate in alone._rates().items():
        if name in ("means", "log_scales", "logit_opacity"):
            moved, clear = getattr(found, name) - before[name], total[name].abs() > 1e-6
            assert clear.float().mean() > 0.5
            expected = -math.sqrt(2) * rate * total[name].sign()
            torch.testing.assert_close(moved[clear], expected[clear], rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("density", ["default", pytest.param("mcmc", marks=pytest.mark.slow)])
def test_two_processes_fit_and_go_on_after_an_interruption(capture, tmp_path, density):
    stage = Radiance(density=density, **TOGETHER)
    job = MemoryJob(tmp_path)
    whole = stage.run(capture, job)
    assert [step for step, _, _ in job.reports[:3]] == [2, 4, 6], "a step counts its photographs"
    assert job.metrics["test_psnr"] > 15
    same_after_interruption(stage, capture, whole, tmp_path, stopped_at=34)


class Killing(MemoryJob):
    """Kills all followers after a few steps."""

    def report(self, step: int, *rest: Any, **more: Any) -> None:
        super().report(step, *rest, **more)
        if step == 10:
            for pid in followers():
                os.kill(pid, signal.SIGKILL)


def followers() -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "stages.together"], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.slow
def test_a_process_that_dies_ends_the_fit_with_its_reason(capture, tmp_path):
    with pytest.raises(RelightError, match="1 of 2 died"):
        Radiance(**TOGETHER).run(capture, Killing(tmp_path))
    assert followers() == []


@pytest.mark.slow
@pytest.mark.parametrize(("module", "when"), [("safetensors", "could not start"), ("scipy", "1 of 2 died")])
def test_a_process_that_fails_says_why(capture, tmp_path, monkeypatch, module, when):
    """One before it is ready, one after."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / f"{module}.py").write_text("raise ImportError('this is a joke')")
    with pytest.raises(RelightError, match=rf"{when}(.|\n)*joke"):
        Radiance(**TOGETHER).run(capture, MemoryJob(tmp_path))
    assert followers() == []
