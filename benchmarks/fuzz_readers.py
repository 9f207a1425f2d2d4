"""Damaged files of every kind that is read: our error or a result, never a crash, a hang or much memory.

    python -m benchmarks.fuzz_readers --seconds 60 [--readers spz sog] [--keep failures/]

Each reader gets a process of its own.  A mutant is a good file with bytes flipped, cut, doubled, zeroed or set to
extreme numbers, or JSON with a value replaced; of packed formats, half of them before they are packed, so that what is
inside is reached too.  A failure is an exception other than `RelightError`, a read of more than 5 seconds of processor
time, a process that dies or never ends, or memory beyond what is allowed: of a splat ten times the good file and its
Gaussians, and 64 MiB; of others, which may hold a larger picture than the good one did, 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.fuzz_samples import READERS, SPLATS
from benchmarks.record import earlier, record
from relight.errors import RelightError
from relight.geometry.gaussians import Gaussians

NAME = "fuzz_readers"
FORK = multiprocessing.get_context("fork")
"""Libraries are loaded once, before any of them has threads."""
HANG = 5
PATIENCE = 30
"""Seconds that a process may take for one of processor time, before it is taken to hang."""
SLACK, MORE_SLACK = 64 << 20, 1 << 30
EXTREMES = [
    b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f"
]  # fmt: skip

WORDS = [
    b"9", b"-", b"e9", b'"', b"null", b"[[[[", b"\n", b" 99999999 ", b"nan", b"../", b"/etc/passwd", b"\0", b"&a [*a] ",
    b"!!python/object/apply:os.abort [] ", b"{", b": ", b"- ", b"1e400", b"\xff\xfe",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 1 << 40, 10**400, 1e308, float("nan"), "", "x",
    "../../etc/passwd", "/dev/zero", "\0", [], {}, [[]],
    {"a": 1}, "a" * 5000,
]  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Some damage."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not out:
            break
        # Headers decide most; they get half of the damage.
        at = rng.randrange(min(len(out), 4096) if rng.random() < 0.5 else len(out))
        kind = rng.randrange(8)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            out[at : at + 4] = rng.choice(EXTREMES)
        elif kind == 3:
            del out[at : at + rng.choice((1, 4, 100, len(out)))]
        elif kind == 4:
            out[at:at] = out[at : at + rng.choice((1, 4, 100))]
        elif kind == 5:
            length = rng.choice((1, 8, 500))
            out[at : at + length] = bytes(length)
        elif kind == 6:
            out[at:at] = rng.choice(WORDS)
        else:
            digits = [i for i in range(at, min(at + 400, len(out))) if 48 <= out[i] <= 57]
            for i in digits[: rng.randrange(1, 4)]:
                out[i] = rng.choice(b"0123456789-")
    return bytes(out)


def value_replaced(data: bytes, rng: random.Random) -> bytes:
    """JSON with one value, at any depth, that is another; bytes are damaged where it is no JSON."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutated(data, rng)
    at = document
    while True:
        places = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not places:
            return mutated(data, rng)
        place = rng.choice(places)
        if isinstance(at[place], dict | list) and at[place] and rng.random() < 0.8:
            at = at[place]
            continue
        if rng.random() < 0.2:
            del at[place]
        else:
            at[place] = rng.choice(VALUES)
        return json.dumps(document).encode()


def fuzz(name: str, seconds: float, seed: int, keep: Path | None, files: float = math.inf) -> dict[str, object]:
    """What happened, in this process, until the time or the number of files is used up."""
    rng, outcomes, failures, reader = random.Random(seed), Counter(), [], READERS[name]
    torch.set_num_threads(1)

    def hang(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {HANG} s of processor time")

    def damaged(data: bytes) -> bytes:
        as_json = data[:1] in b"{[" and rng.random() < 0.5
        return value_replaced(data, rng) if as_json else mutated(data, rng)

    signal.signal(signal.SIGPROF, hang)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        reader.make(folder)
        path, good = folder / reader.files[0], {file: (folder / file).read_bytes() for file in reader.files}
        decoded = reader.read(path)
        held = sum(t.nbytes for t in decoded.tensors().values()) if isinstance(decoded, Gaussians) else 0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        end = _spent() + seconds
        while _spent() < end and outcomes.total() < files:
            file = rng.choice(reader.files)
            inside = reader.inside is not None and rng.random() < 0.5
            mutant = reader.inside(good[file], damaged, rng) if inside and reader.inside else damaged(good[file])
            (folder / file).write_bytes(mutant)
            signal.setitimer(signal.ITIMER_PROF, HANG)
            try:
                reader.read(path)
                outcomes["read"] += 1
            except RelightError:
                outcomes["refused"] += 1
            except BaseException as error:  # every other one is what is looked for
                outcomes["failed"] += 1
                if isinstance(error, KeyboardInterrupt):
                    raise
                failures.append("".join(traceback.format_exception(error)[-3:]))
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{outcomes['failed']}{(folder / file).suffix}").write_bytes(mutant)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                (folder / file).write_bytes(good[file])
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    allowed = 10 * (len(good[reader.files[0]]) + held) + SLACK if name in SPLATS else MORE_SLACK
    if grown > allowed:
        outcomes["failed"] += 1
        failures.append(f"grew by {grown >> 20} MiB; at most {allowed >> 20} are allowed")
    return {"files": sum(outcomes.values()), **outcomes, "grown_mib": grown >> 20, "failures": failures[:5]}


def _spent() -> float:
    """Seconds of processor time, of programs that a reader starts too."""
    return sum(os.times()[:4])


def in_a_process(name: str, seconds: float, seed: int, keep: Path | None) -> dict[str, Any]:
    """The same in a process that may die or hang."""
    ours, theirs = FORK.Pipe(duplex=False)

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # OpenEXR has much to say
        theirs.send(json.dumps(fuzz(name, seconds, seed, keep)))

    process = FORK.Process(target=work)
    process.start()
    theirs.close()
    problem = "never ended: what hangs doesn't come back to Python"
    try:
        if ours.poll(PATIENCE * (seconds + 20)):
            return json.loads(ours.recv())
    except EOFError:
        process.join()
        problem = f"died with {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return {"files": 0, "failed": 1, "failures": [problem]}


def main() -> int:
    """Every reader in a process of its own; one result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time, for each reader")
    parser.add_argument("--readers", nargs="*", choices=READERS, default=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that fail")
    parser.add_argument("--add", action="store_true", help="keep what the last run found of other readers")
    arguments = parser.parse_args()
    readers = {n: found for n, found in earlier(NAME).items() if n in READERS} if arguments.add else {}
    for name in arguments.readers:
        found = in_a_process(name, arguments.seconds, arguments.seed, arguments.keep)
        for text in found.pop("failures"):
            print(f"{name}: {text}", file=sys.stderr)
        print(name, found, file=sys.stderr, flush=True)
        readers[name] = found | {"processor seconds": arguments.seconds}
    failed = sum(found.get("failed", 0) for found in readers.values())
    detail = {"title": f"Damaged files read by {len(readers)} readers without a crash, a hang or much memory"}
    record(NAME, sum(f["files"] for f in readers.values()), "files", detail=detail | readers | {"failed": failed})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
