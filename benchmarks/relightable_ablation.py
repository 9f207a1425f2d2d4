"""What each part of `distill` is worth: variants on the captures of `benchmarks.relightable`, over seeds.

    python -m benchmarks.relightable_ablation [spot sample] [--seeds 3] [--variants "without visibility"] [--jobs 2]
    python -m benchmarks.relightable_ablation --quick --variant "no smoothing: distill.diffuse.smooth_weight=0"

Radiance is fitted once for each capture and seed; all variants start from that result.  Every fit is a process with
one thread.  Scores are kept in the work folder as JSON lines, so a run that was killed goes on where it was; scores and
fits of other code are not reused.  Means go to results/relightable_ablation.json, unless --quick.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.record import record
from benchmarks.relightable import CAPTURES, EVERY, ROOT, SAMPLES, configured, minutes, scored
from relight.pipeline import run

VARIANTS: dict[str, list[str]] = {
    "default": [],
    "without progress": ["distill.captured_look=never"],
    "without specular first": ["distill.specular.iterations=0"],
    "without visibility": ["distill.shadows=false"],
    "without the captured look at the end": ["distill.captured_look=early"],
    "without Monte Carlo at the end": ["distill.refine.iterations=0"],
    "without judging kinds": ["distill.joint.judge=false", "distill.refine.judge=false"],
}
"""Overrides of the scene file by name.  The first is what the others are compared with."""
DEFAULT = next(iter(VARIANTS))
QUICK = [
    "data.max_size=96", "radiance.iterations=600", "radiance.max_gaussians=6000", "radiance.initial_gaussians=3000",
    "distill.specular.iterations=60", "distill.diffuse.iterations=120", "distill.joint.iterations=120",
    "distill.refine.iterations=100",
]  # fmt: skip
SHOWN = {
    "novel views, dB": 1, "relit, per channel, dB": 1, "albedo, per channel, picture, dB": 1, "normals, degrees": -1,
    "roughness MAE": -1, "metallic MAE": -1, "light": -1, "baked light, correlation": 0, "baked light, share": 0,
}  # fmt: skip
"""Columns of the table, and whether more is better (1), less (-1) or nearness to 0 (0)."""


@dataclass(frozen=True)
class Case:
    """One fit.  overrides: shared ones and the variant's."""

    capture: str
    variant: str
    seed: int
    overrides: tuple[str, ...]
    samples: int = SAMPLES
    every: int = EVERY


def radiance_folder(work: Path, capture: str, seed: int) -> Path:
    return work / f"{capture}_{seed}"


def fit_radiance(work: Path, capture: str, seed: int, overrides: Sequence[str]) -> Path:
    """The stage that all variants start from; made once, and again where its options changed."""
    config = configured(capture, radiance_folder(work, capture, seed), [*overrides, f"seed={seed}"])
    return run(config, until="radiance").stage


def fit_and_score(work: Path, code: str, case: Case, radiance: Path) -> dict[str, float]:
    """Distil in a folder of the variant's own, which holds the shared radiance as hard links."""
    name = re.sub(r"\W+", "_", case.variant)
    folder = work / f"{case.capture}_{case.seed}_{name}_{code}"
    start = folder / radiance.name
    shutil.rmtree(start, ignore_errors=True)
    shutil.copytree(radiance, start, copy_function=os.link)
    scene = run(configured(case.capture, folder, [*case.overrides, f"seed={case.seed}"])).scene
    row, _ = scored(case.capture, scene, samples=case.samples, every=case.every)
    return {"minutes": minutes(scene), **row}


def code_hash() -> str:
    """Of all that decides what a fit gives."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "relight").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


class Results:
    """JSON lines, one a case; the last one of a case counts."""

    def __init__(self, path: Path, code: str):
        self.path, self.code = path, code
        self.rows: dict[Case, dict[str, float]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                saved = json.loads(line)
                case = Case(**{**saved["case"], "overrides": tuple(saved["case"]["overrides"])})
            except (ValueError, KeyError, TypeError):
                continue  # cut off by a kill
            if saved["code"] == code:
                self.rows[case] = saved["row"]

    def add(self, case: Case, row: dict[str, float]) -> None:
        self.rows[case] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps({'code': self.code, 'case': asdict(case), 'row': row})}")


def work_through(
    work: Path, cases: Sequence[Case], shared: Sequence[str], jobs: int, results: Results
) -> dict[Case, BaseException]:
    """Fit and score what has no result yet, `jobs` at a time.  What failed, and why; the rest goes on."""
    wanted = [case for case in cases if case not in results.rows]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # the processes inherit it, before they load torch
    context, failed = multiprocessing.get_context("spawn"), {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        todo: dict[Future, tuple[str, int] | Case] = {}
        for capture, seed in dict.fromkeys((case.capture, case.seed) for case in wanted):
            todo[pool.submit(fit_radiance, work, capture, seed, shared)] = capture, seed
        try:
            while todo:
                done = next(as_completed(todo))
                what, error = todo.pop(done), done.exception()
                if isinstance(what, Case):
                    if error is None:
                        results.add(what, done.result())
                        print(f"{len(results.rows)} done: {what.capture}, seed {what.seed}, {what.variant}", flush=True)
                    else:
                        failed[what] = error
                    continue
                for case in wanted:
                    if (case.capture, case.seed) == what and error is None:
                        todo[pool.submit(fit_and_score, work, results.code, case, done.result())] = case
                    elif (case.capture, case.seed) == what:
                        failed[case] = error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def summary(rows: Mapping[Case, Mapping[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Per variant and column: `mean` over captures and seeds; `spread`, the standard deviation over seeds of the mean
    over captures; `difference` to the default, and `spread of difference`, of the same captures and seeds.
    """
    values: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
    for case, row in rows.items():
        values.setdefault(case.variant, {}).setdefault(case.seed, {})[case.capture] = dict(row)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for variant, seeds in values.items():
        out[variant] = {}
        for key in next(iter(next(iter(seeds.values())).values())):
            means = [fmean(row[key] for row in captures.values()) for captures in seeds.values()]
            apart = [
                fmean(row[key] - values[DEFAULT][seed][capture][key] for capture, row in captures.items())
                for seed, captures in seeds.items()
            ]
            out[variant][key] = {
                "mean": fmean(means), "spread": _spread(means),
                "difference": fmean(apart), "spread of difference": _spread(apart),
            }  # fmt: skip
    return out


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def wins(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Where a variant beats the default by more than the spread of their difference."""
    out = []
    for variant, columns in table.items():
        for key, sign in SHOWN.items():
            cell = columns[key]
            if sign:
                gain = sign * cell["difference"]
            else:
                gain = abs(cell["mean"] - cell["difference"]) - abs(cell["mean"])
            if gain > cell["spread of difference"]:
                out.append(f"{variant}: {key} by {gain:.3g}")
    return out


def show(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Mean +- spread, and the difference to the default below it."""
    width = max(map(len, table))
    lines = []
    for key in SHOWN:
        lines.append(f"{key}")
        for variant, columns in table.items():
            c = columns[key]
            line = f"  {variant:<{width}} {c['mean']:8.3f} +-{c['spread']:6.3f}"
            if variant != DEFAULT:
                line += f"   {c['difference']:+8.3f} +-{c['spread of difference']:6.3f}"
            lines.append(line)
    return "\n".join(lines)


def _variants(options: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    known = dict(VARIANTS)
    for text in options.variant:
        name, _, words = text.partition(":")
        known[name.strip()] = words.split()
    chosen = [DEFAULT, *(options.variants or known), *(text.partition(":")[0].strip() for text in options.variant)]
    if wrong := [name for name in chosen if name not in known]:
        parser.error(f"{wrong[0]}: no such variant; there are {', '.join(known)}")
    return {name: known[name] for name in dict.fromkeys(chosen)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", help=f"default: {' '.join(CAPTURES)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", metavar="NAME", help=f"default: all of {', '.join(VARIANTS)}")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME: KEY=VALUE ...", help="one more")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all variants")
    parser.add_argument("--size", type=int, help="longest side of photographs, pixels")
    parser.add_argument("--quick", action="store_true", help="small and short; records nothing")
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time (default: 2)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "ablation", help="results and fits are kept here")
    options = parser.parse_args()
    captures = options.captures or list(CAPTURES)
    if wrong := [name for name in captures if name not in CAPTURES]:
        parser.error(f"{wrong[0]}: no such capture; there are {', '.join(CAPTURES)}")
    variants = _variants(options, parser)
    shared = [*(QUICK if options.quick else []), *options.set]
    shared += [f"data.max_size={options.size}"] if options.size else []
    options.work.mkdir(parents=True, exist_ok=True)
    for words in variants.values():  # mistakes in options show before the first fit
        configured(captures[0], options.work / "check", [*shared, *words])
    scoring = {"samples": 8, "every": 8} if options.quick else {}
    cases = [
        Case(capture, variant, seed, (*shared, *words), **scoring)
        for seed in range(options.seeds) for capture in captures for variant, words in variants.items()
    ]  # fmt: skip
    results = Results(options.work / "results.jsonl", code_hash())
    failed = work_through(options.work, cases, shared, options.jobs, results)
    for case, error in failed.items():
        print(f"failed: {case.capture}, seed {case.seed}, {case.variant}: {type(error).__name__}: {error}")
    # A variant is compared where it is complete.
    whole = [case for case in cases if case.variant not in {lost.variant for lost in failed}]
    if not any(case.variant == DEFAULT for case in whole):
        sys.exit("nothing to compare with: fits with the default options failed")
    table = summary({case: results.rows[case] for case in whole})
    print(show(table))
    better = wins(table) if options.seeds > 1 else []  # one seed tells no spread
    print("better than the default: " + ("; ".join(better) or "nothing"))
    if failed or options.quick:
        sys.exit(bool(failed))
    record(
        "relightable_ablation",
        table[DEFAULT]["relit, per channel, dB"]["mean"],
        "dB PSNR, unseen lights, all parts",
        detail={
            "title": f"parts of `distill`, mean of {options.seeds} seeds",
            "captures": captures,
            "variants": variants,
            "shared options": shared,
            "scores": _cut(table, "mean"),
            "spread over seeds": _cut(table, "spread"),
            "difference to the default": _cut(table, "difference", but=DEFAULT),
            "spread of the difference": _cut(table, "spread of difference", but=DEFAULT),
            "better than the default": better,
            "rows": [{**asdict(case), "row": results.rows[case]} for case in cases],
        },
    )


def _cut(table: Mapping[str, Mapping[str, Mapping[str, float]]], what: str, but: str = "") -> dict:
    return {
        variant: {key: cells[what] for key, cells in columns.items() if key in SHOWN}
        for variant, columns in table.items() if variant != but
    }  # fmt: skip


if __name__ == "__main__":
    main()
