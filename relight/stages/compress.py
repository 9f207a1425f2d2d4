"""Stage `compress`: as small a splat file as keeps its looks."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.compress import codec, curve
from relight.compress.budget import BOLD, Budget
from relight.compress.lattice import Lattice
from relight.compress.looks import Looks
from relight.compress.orientation import least_turned
from relight.compress.recover import Student
from relight.compress.search import Rung, Target, Task, amount, next_task
from relight.compress.significance import sensitivity, significance
from relight.compress.witnesses import witnesses
from relight.errors import MissingPartError, RelightError
from relight.formats import FORMATS, find, lost
from relight.formats.common import plain
from relight.geometry import sh
from relight.geometry.camera import evenly
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.stages.base import Checkpoint, Job, Stage

TRIES = 4
"""Most files that are written of one splat, finer each time, until one keeps to the target."""


@dataclass(frozen=True, kw_only=True)
class Compress(Stage):
    """A smaller splat, and its file: pruned, recovered, with less SH, and as few bits as the target allows.

    After Fan et al., LightGaussian, arXiv 2311.17245, 2023, with bits allocated by what they are measured to be worth.
    Put it last: what comes after works on what is left of the splat.  Decibels are lost against the held-out
    photographs; without photographs, or with materials, against pictures of the splat as it was.
    """

    needs: ClassVar[tuple[str, ...]] = ("gaussians",)
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)

    max_psnr_drop: float | None = None
    """Target: the smallest file that loses at most so many decibels on held-out views.  0.3 if no target is set."""
    max_size: str | int | None = None
    """Target: the best file of at most so many bytes, such as 5MB (MB = 1,000,000 bytes)."""
    count: str | int | None = None
    """Target: so many Gaussians, such as 200k."""
    format: str = "sog"
    """Of the file, which decides what writing costs: sog, spz, or any other that is written."""
    score: Literal["sensitivity", "significance"] = "sensitivity"
    """What is pruned last.  significance: LightGaussian's, blending weight x volume^`volume_power`.  sensitivity: the
    squared change of the pictures if the Gaussian were left out."""
    volume_power: float = 0.1
    """Of the volume in `significance` (LightGaussian: 0.1).  0 to 2."""
    keep: float = 0.7
    """Share of the Gaussians that one pruning leaves; recovery follows each.  0.2 to 0.95."""
    iterations: int = 300
    """Steps of recovery after each pruning, a picture each; 0 for none (LightGaussian: 5000, after one pruning)."""
    polish: int = 600
    """Steps at the end."""
    between: int = 2
    """Prunings that are tried between the last one that kept to the target and the first that did not."""
    pseudo: float = 0.5
    """Share of recovery's views that are between the photographs, as the splat was (LightGaussian: 2/3).  0 to 1."""
    lower_degree: bool = True
    """Try lower degrees of SH, distilled from the splat as it was."""
    bits: Literal["measured", "usual", "full"] = "measured"
    """How numbers are coarsened for the file.  measured: by what each attribute's bits are worth in pictures.  usual:
    as is usually best, which takes no time.  full: not at all."""
    views: int = 12
    """Most held-out views that trials are judged by."""
    cameras: int = 64
    """Most views that tell what a Gaussian counts for.  Without photographs, views that recovery sees too: what none of
    them sees goes."""
    view_size: int = 400
    """Without photographs: pixels of a side."""
    assumed_psnr: float = 27.4
    """Without photographs: decibels between the splat and the photographs that it was fitted to, unless the stage that
    did so says; errors of compression are taken to add to that (3DGS on Mip-NeRF 360: 27.4).  10 to 60."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "volume_power": (0, 2), "keep": (0.2, 0.95), "iterations": (0, math.inf), "polish": (0, math.inf),
            "between": (0, 20), "pseudo": (0, 1), "views": (1, math.inf), "cameras": (1, math.inf),
            "view_size": (16, 4096), "assumed_psnr": (10, 60),
        })  # fmt: skip
        wrong, given = [], [n for n in ("max_psnr_drop", "max_size", "count") if getattr(self, n) is not None]
        if len(given) > 1:
            wrong.append(f"{given[1]}: only one target can be set (got {' and '.join(given)})")
        if self.max_psnr_drop is not None and not self.max_psnr_drop > 0:
            wrong.append(f"max_psnr_drop: expected more than 0 (got {self.max_psnr_drop})")
        for name, unit in (("max_size", "b"), ("count", "")):
            if getattr(self, name) is not None:
                try:
                    amount(getattr(self, name), unit)
                except ValueError as error:
                    wrong.append(f"{name}: {error}")
        target = find_format(self.format)
        if target is None:
            known = ", ".join(f.name for f in FORMATS.values() if f.writes)
            wrong.append(f"format: expected one of {known} (got {self.format!r})")
        if wrong:
            raise ValueError("\n".join(wrong))

    @property
    def target(self) -> Target:
        """What was asked for."""
        if self.max_size is not None:
            return Target(size=amount(self.max_size, "b"))
        if self.count is not None:
            return Target(count=amount(self.count))
        return Target(drop=0.3 if self.max_psnr_drop is None else self.max_psnr_drop)

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without Gaussians, RelightError for a target that can't be met."""
        if scene.gaussians is None or len(scene.gaussians) == 0:
            raise MissingPartError("compress: the scene has no splat; put radiance before compress")
        return Compression(self, scene, scene.gaussians, job).run()


def find_format(name: str):
    """A format that is written, by name or suffix."""
    found = find(Path("x"), name)
    return found if found is not None and found.writes else None


class Compression:
    """The state of one compression.

    original: as files mean it, and with the axes that they take least for.  judge, teacher: of it.
    """

    def __init__(self, options: Compress, scene: Scene, gaussians: Gaussians, job: Job):
        self.options, self.scene, self.job = options, scene, job
        format = find_format(options.format)
        assert format is not None
        self.format = format
        self.original = least_turned(plain(gaussians.detach()).to(job.device))
        if missing := lost(self.original, format):
            warnings.warn(f"compress: {format.what} has no place for {', '.join(missing)}", stacklevel=3)
        self.degree = self.original.sh_degree if "sh" in format.keeps else 0
        self.looks = Looks(create_rasterizer(job.backend, job.device), RasterOptions.for_extent(scene.frame.radius))
        self.generator = torch.Generator().manual_seed(job.seed)
        self.teacher, self.judge = witnesses(
            scene, self.original, self.looks, cameras=options.cameras, views=options.views,
            view_size=options.view_size, assumed=options.assumed_psnr, seed=job.seed,
        )  # fmt: skip
        self.budget = Budget(options.target, self.judge)
        self.measured: dict[str, tuple[int, float]] = {}
        """Bytes and errors of choices, while they are being measured."""
        self.rungs: list[Rung] = []
        self.states: dict[int | None, tuple[Gaussians, Tensor]] = {}
        """Splats that a fit may begin with, by the trial that made them, and what their Gaussians count for."""
        self.task: Task | None = None
        self.student: Student | None = None
        self.step, self.steps_before = 0, 0
        if job.restored is not None:
            self._restore(job.restored)

    @property
    def target(self) -> Target:
        """What is aimed at; of a count, what can be met."""
        return self.budget.target

    def run(self) -> Scene:
        if None not in self.states and not self.rungs:
            counts_for = self.importance(self.original, every=True)
            seen = counts_for[:, 1] > 0
            self.states[None] = self.original[seen], counts_for[seen]
            self.visible = int(seen.sum())
            if self.visible == 0:
                raise RelightError("compress: no camera sees anything of the splat; is it opaque, and before them?")
            self._limit_count()
            if self.options.bits == "measured":
                self._measure_bits()
        enough = False
        while not enough and (self.task is not None or self._begin_next()):
            enough = self._fit()
            self._try_file()
        return self._finish(enough)

    def importance(self, splat: Gaussians, *, every: bool = False) -> Tensor:
        """(N, 2) what each Gaussian counts for, over `cameras` of the teacher's, or all; as a whole, and by its colour
        alone, which is 0 for what none of them sees."""
        o, count, draw = self.options, len(self.teacher.cameras), self.looks
        cameras = [self.teacher.cameras[i] for i in evenly(count, count if every else o.cameras)]
        if o.score == "sensitivity":
            return torch.stack(sensitivity(draw.rasterizer, splat, cameras, draw.options, seed=self.job.seed), 1)
        one = significance(draw.rasterizer, splat, cameras, draw.options, volume_power=o.volume_power)
        return one[:, None].expand(-1, 2)

    def _limit_count(self) -> None:
        """More than are seen cannot be kept."""
        if self.target.count is not None:
            self.budget.target = Target(count=min(self.target.count, self.visible))

    def _measure_bits(self) -> None:
        splat, counts_for = self.states[None]
        before = self.judge.pictures(splat)
        self.budget.table = codec.measure(
            splat, self.format, self.job.folder / f".bits{self.format.suffixes[0]}",
            lambda decoded: self.judge.distance(decoded, before), counts_for[:, 1],
            most_error=self.budget.allowed if self.target.size is None else 1e-3, known=self.measured,
            advance=self._measured_so_far,
        )  # fmt: skip

    def _measured_so_far(self, done: int, total: int) -> None:
        """Files count as steps."""
        self.steps_before = done
        self.job.report(done, total - done + self._total())
        if self.job.checkpoint_due():
            self.job.checkpoint(Checkpoint(done, {}, {"measured": self.measured}))

    def _begin_next(self) -> bool:
        """Choose the next fit, and its first state; False if nothing is left to try."""
        o = self.options
        self.task = next_task(
            self.rungs, self.target, visible=self.visible, degree=self.degree, keep=o.keep,
            between=o.between, lower_degree=o.lower_degree, polish=len(BOLD) if o.polish else 0,
        )  # fmt: skip
        if self.task is None:
            return False
        self.student, self.step = self._student(self.task), 0
        return True

    def _student(self, task: Task) -> Student:
        """What a fit begins with; to be polished, with the values that a file leaves it."""
        splat, counts_for = self.states[task.start]
        chosen = counts_for[:, 0].topk(min(task.count, len(splat))).indices.sort().values
        splat = splat[chosen]
        splat = replace(splat, sh=splat.sh[:, : sh.count(task.degree)])
        lattice = None
        if task.kind == "polish":
            recipe = self.budget.polished(self.rungs, task.start or 0)
            lattice = Lattice.of(self._file(splat, recipe, counts_for[chosen])[0])
        return Student(splat, self.scene.frame.radius, lattice)

    def _file(self, splat: Gaussians, recipe: codec.Recipe, counts_for: Tensor) -> tuple[Gaussians, int]:
        """What is read from a file, and its bytes."""
        path = self.job.folder / f".trial{self.format.suffixes[0]}"
        try:
            return codec.encode(splat, recipe, self.format, path, counts_for[:, 1]), path.stat().st_size
        finally:
            path.unlink(missing_ok=True)

    def _iterations(self, task: Task) -> int:
        if task.kind == "prune" and task.count >= self.visible and self.teacher.photos is None:
            return 0  # it is the teacher
        return self.options.polish if task.kind == "polish" else self.options.iterations

    def _total(self) -> int:
        """Steps, as far as they can be told: at least the current fit and the last are still to come."""
        rest = self._iterations(self.task) if self.task is not None else self.options.iterations
        left = max(2 + self.options.between - len(self.rungs), 0) * self.options.iterations
        polished = any(r.kind == "polish" for r in self.rungs) or (self.task and self.task.kind == "polish")
        return self.steps_before + rest + left + (0 if polished else self.options.polish)

    def _fit(self) -> bool:
        """Whether the user has seen enough."""
        assert self.task is not None and self.student is not None
        total = self._iterations(self.task)
        # SH that a lower degree has to stand for are seen between photographs too.
        pseudo = max(self.options.pseudo, 2 / 3) if self.task.kind == "degree" else self.options.pseudo
        while self.step < total:
            loss = self.student.step(self.teacher, self.step / total, self.generator, pseudo=pseudo)
            self.step += 1
            now = self.steps_before + self.step
            metrics = {"loss": loss, "gaussians": float(len(self.student))} if self.step % 50 == 0 else None
            scene = replace(self.scene, gaussians=self.student.gaussians().detach()) if metrics else None
            self.job.report(now, max(self._total(), now), metrics, scene=scene)
            if self.job.enough():
                return True
            if self.job.checkpoint_due():
                self.job.checkpoint(self._checkpoint())
        return False

    def _try_file(self) -> None:
        """Write what was fitted, as finely as the target asks for, and judge what is read."""
        assert self.task is not None and self.student is not None
        splat, task = self.student.gaussians().detach(), self.task
        fitted = self.judge.score(splat)
        if task.kind != "polish" and (before := self.judge.score(self.student.template)).drop < fitted.drop:
            splat, fitted = self.student.template, before  # little was lost, and the fit's own noise is more
        counts_for = self.importance(splat)
        slack, rung = 1.0, None
        for attempt in range(TRIES):
            if task.kind == "polish":
                recipe = self.budget.polished(self.rungs, task.start or 0)
            elif self.options.bits == "usual":
                recipe = codec.usual(self.format, len(splat), attempt if self.target.size is None else -attempt)
            else:
                recipe = self.budget.recipe(len(splat), task.degree, fitted, slack)
            decoded, size = self._file(splat, recipe, counts_for)
            packed = self.judge.score(decoded)
            rung = Rung(len(self.rungs), task.kind, len(splat), task.degree, fitted, packed, size, dict(recipe))
            hopeless = fitted.drop > (self.target.drop or math.inf) or self.options.bits == "full"
            if task.kind == "polish" or self.target.count is not None or self.target.met(rung) or hopeless:
                break
            slack *= 0.5 if self.target.size is None else 0.99 * self.target.size / size
        assert rung is not None
        self.rungs.append(rung)
        self.states[rung.index] = splat, counts_for
        kept = rung, self.target.best(self.rungs), self.target.narrow_miss(self.rungs)
        needed = {r.index for r in kept if r is not None} | ({None} if len(self.rungs) < 2 else set())
        self.states = {index: state for index, state in self.states.items() if index in needed}
        self.steps_before += self._iterations(task)
        self.task = self.student = None
        metrics = {"gaussians": float(rung.count), "bytes": float(rung.size), "lost": rung.packed.drop}
        now = self.steps_before
        self.job.report(now, max(now, self._total()), metrics, scene=replace(self.scene, gaussians=splat))

    def _finish(self, early: bool) -> Scene:
        """early: the target need not be met."""
        best = self.target.best(self.rungs) or (self.rungs[-1] if early else None)
        if best is None:
            raise RelightError(self._missed())
        splat, counts_for = self.states[best.index]
        path = self.job.folder / f"splat{self.format.suffixes[0]}"
        decoded = codec.encode(splat, best.recipe, self.format, path, counts_for[:, 1])
        summary = {"file": path.name, "format": self.format.name, "before": len(self.original)}
        curve.write_curve(self.job.folder, self.rungs, best.index, summary)
        result = replace(self.scene, gaussians=decoded)
        metrics = {"gaussians": float(best.count), "bytes": float(best.size), "lost": best.packed.drop}
        if self.judge.photos is not None:
            metrics |= {"test_psnr": best.packed.psnr, "test_ssim": best.packed.ssim}
        self.job.report(self.steps_before, self.steps_before, metrics, scene=result)
        return result

    def _missed(self) -> str:
        nearest = min(self.rungs, key=lambda r: r.size if self.target.size is not None else r.packed.drop)
        found = f"{nearest.count:,} Gaussians in {nearest.size:,} bytes lose {nearest.packed.drop:.2f} dB"
        if self.target.size is not None:
            return f"compress: max_size {self.options.max_size}: too small; the smallest tried: {found}"
        return (
            f"compress: max_psnr_drop {self.target.drop:g}: not met by any file of {self.format.what}; the nearest: "
            f"{found}; allow more, or recover for longer (iterations)"
        )

    def _checkpoint(self) -> Checkpoint:
        assert self.task is not None and self.student is not None
        tensors = {**self.student.state(), "generator": self.generator.get_state()}
        for index, (splat, counts_for) in self.states.items():
            tensors |= {f"state.{index}.{name}": t for name, t in splat.tensors().items()}
            tensors[f"score.{index}"] = counts_for
        values = {
            "task": asdict(self.task), "rungs": [asdict(r) for r in self.rungs], "step": self.step,
            "visible": self.visible, "table": self.budget.table.to_json() if self.budget.table is not None else None,
        }  # fmt: skip
        return Checkpoint(self.steps_before + self.step, tensors, values)

    def _restore(self, saved: Checkpoint) -> None:
        values = json.loads(json.dumps(dict(saved.values)))
        if "measured" in values:  # nothing was fitted yet
            self.measured = {choice: (size, error) for choice, (size, error) in values["measured"].items()}
            return
        self.task, self.step, self.visible = Task(**values["task"]), values["step"], values["visible"]
        self.steps_before = saved.step - self.step
        self._limit_count()
        self.rungs = [Rung.from_json(r) for r in values["rungs"]]
        self.budget.table = codec.Table.from_json(values["table"]) if values["table"] is not None else None
        self.generator.set_state(saved.tensors["generator"])
        for name in [n for n in saved.tensors if n.startswith("score.")]:
            index = name.removeprefix("score.")
            splat = Gaussians.from_tensors(saved.under(f"state.{index}."), **self.original.flags).to(self.job.device)
            self.states[None if index == "None" else int(index)] = splat, saved.tensors[name].to(self.job.device)
        self.student = self._student(self.task)
        self.student.restore(saved.tensors)
