"""Run the benchmark set at a small size, or score a relighter on scenes whose light is known.

examples:
  relight bench                                       the set, in a clone of the repository: minutes, and a table
  relight bench --smoke                               its quick ones
  relight bench --only uplift panorama -o runs/bench
  relight bench relighting                            LumosBench's attributes of light, measured and not judged
  relight bench relighting --model shading --json shading.json
  relight bench relighting --weights runs/relight/prior.safetensors --scenes 20
  relight bench relighting --model truth              what the measurements make of perfect pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from relight.cli.arguments import count

WHAT = ("set", "relighting")


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """What, which model, how much."""
    verb.add_argument("what", nargs="?", choices=WHAT, default=WHAT[0], help="(default: %(default)s)")
    chosen = verb.add_argument_group("set")
    chosen.add_argument("--smoke", action="store_true", help="the quick ones")
    chosen.add_argument("--only", nargs="+", metavar="NAME", help="some of them")
    chosen.add_argument("-o", "--output", type=Path, default=Path("runs/bench"), metavar="FOLDER",
                        help="for results and logs (default: %(default)s)")  # fmt: skip
    parser = verb.add_argument_group("relighting")
    parser.add_argument(
        "--model", default="prior", metavar="NAME", help="as of relight relight; or truth, or unchanged"
    )
    parser.add_argument("--weights", metavar="PLACE", help="file, folder or a hub's name; default: the model's own")
    parser.add_argument("--base", metavar="PLACE", help="of the model that a public one adds to")
    parser.add_argument("--steps", type=count, default=4, help="of sampling by the prior (default: 4)")
    parser.add_argument("--scenes", type=count, default=6, help="for stills (default: 6)")
    parser.add_argument("--clips", type=count, default=1, help="of each of three kinds (default: 1)")
    parser.add_argument("--frames", type=count, default=8, help="of a clip (default: 8)")
    parser.add_argument("--size", type=count, default=128, help="pixels a side (default: 128)")
    parser.add_argument("--samples", type=int, default=16,
                        help="of light, a pixel of the truth; 0: split-sum, without noise (default: 16)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=90001, help="of the first scene; priors were trained on others")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to this file")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Print a table."""
    return _set(arguments) if arguments.what == "set" else _relighting(arguments)


def _set(arguments: argparse.Namespace) -> int:
    """1 if a script failed."""
    import sys
    from importlib import import_module

    from relight.errors import RelightError
    from relight.plugins import did_you_mean

    root = Path(__file__).parents[2]
    if not (root / "benchmarks" / "suite.py").is_file():
        raise RelightError("bench: the benchmark set is in the repository, not in the package; run it from a clone")
    sys.path.insert(0, str(root))
    suite = import_module("benchmarks.suite")
    names = {small.script for small in suite.SUITE}
    for name in arguments.only or ():
        if name not in names:
            raise RelightError(f"--only {name}: not in the set{did_you_mean(name, names, list_all=True)}")
    wanted = [s for s in suite.SUITE if (s.smoke or not arguments.smoke) and s.script in (arguments.only or names)]
    if not wanted:
        raise RelightError("bench: none of --only is among the quick ones; leave out --smoke")

    def told(outcome: Any) -> None:
        sys.stderr.write(f"{outcome.small.script}: {outcome.trouble or f'{outcome.seconds:.0f} s'}\n")

    outcomes = suite.run(arguments.output, wanted, told)
    print(suite.report(outcomes))
    return int(any(o.trouble and not o.trouble.startswith("skipped") for o in outcomes))


def _relighting(arguments: argparse.Namespace) -> int:
    """Print a table of means."""
    import json
    from functools import partial

    from relight.atomic import replacing
    from relight.cli.arguments import keep_files
    from relight.cli.progress import bar
    from relight.diffusion.pictures.lumos.scores import Plan, Truth, measured
    from relight.diffusion.pictures.relighters import Unchanged, create_relighter
    from relight.errors import RelightError
    from relight.render.monte_carlo import FastMonteCarlo

    if arguments.json is not None:
        keep_files([arguments.json], arguments.force)
    if arguments.frames < 3 or arguments.size < 32:
        raise RelightError(
            f"--frames {arguments.frames}, --size {arguments.size}: expected at least 3 frames of 32 pixels a side"
        )
    estimator = FastMonteCarlo(arguments.samples) if arguments.samples > 0 else None
    plan = Plan(
        arguments.scenes, arguments.clips, arguments.size, arguments.frames, arguments.seed, estimator
    )  # fmt: skip
    if arguments.model == "truth":
        model = partial(Truth, estimator=estimator)
    elif arguments.model == "unchanged":
        model = lambda shot: Unchanged()  # noqa: E731
    else:
        made = create_relighter(arguments.model, arguments.weights, base=arguments.base, steps=arguments.steps)
        model = lambda shot: made  # noqa: E731
    with bar("scenes", plan.scenes + 3 * plan.clips) as advance:
        found = measured(model, plan, advance)
    _print(found)
    if arguments.json is not None:
        document = {
            "model": arguments.model,
            "plan": {k: v for k, v in vars(plan).items() if k != "estimator"},
            **found,
        }
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1))
    return 0


def _print(found: dict[str, Any]) -> None:
    print("attribute    right   error")
    stills = found["stills"]
    for name, share in found["attributes"].items():
        error = next((f"{v:.2f} {k.partition(', ')[2]}" for k, v in stills.items() if k.startswith(f"{name}, ")), "")
        print(f"{name:<12} {100 * share:4.0f} %  {error}")
    print(f"score        {100 * found['score']:4.0f} %")
    rows = {k: v for k, v in stills.items() if k in ("PSNR, dB", "SSIM", "fMSE")} | found["normals"]
    rows |= {k: v for k, v in found["clips"].items() if "class" not in k}
    for name, value in rows.items():
        print(f"{name:<34} {value:9.4g}")
