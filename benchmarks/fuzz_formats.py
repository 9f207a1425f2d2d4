"""Damaged splat files, for some processor time a format: our error or a splat, never a crash, a hang or much memory.

    python -m benchmarks.fuzz_formats --seconds 60 [--formats spz sog] [--keep failures/]

Each format gets a process of its own.  A mutant is a good file with bytes flipped, cut, doubled, zeroed or set to
extreme numbers; of packed formats, half of them before they are packed, so that what is inside is reached too.  A
failure is an exception other than `RelightError`, a read of more than 5 seconds of processor time, a process that dies
or never ends, or memory beyond ten times the good file and its Gaussians, and 64 MiB.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.record import record
from relight.errors import RelightError
from relight.formats import read_splat, write_splat
from relight.geometry.gaussians import CHANNELS, Gaussians

FILES = {
    "ply": "a.ply", "compressed_ply": "a.compressed.ply", "splat": "a.splat", "spz": "a.spz", "spz3": "b.spz",
    "sog": "a.sog", "gltf": "a.glb", "ksplat": "a.ksplat",
}  # fmt: skip
HANG = 5
PATIENCE = 30
"""Seconds that a process may take for one of processor time, before it is taken to hang."""
SLACK = 64 << 20
EXTREMES = [
    b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f"
]  # fmt: skip


def sample(count: int = 300) -> Gaussians:
    """A splat with SH of degree 2 and all materials."""
    generator = torch.Generator().manual_seed(1)
    g = Gaussians(
        means=torch.randn(count, 3, generator=generator),
        quats_wxyz=torch.randn(count, 4, generator=generator),
        log_scales=torch.randn(count, 3, generator=generator) - 3,
        logit_opacity=torch.randn(count, generator=generator),
        sh=0.3 * torch.randn(count, 9, 3, generator=generator),
        antialiased=True,
    )
    channels = {name: torch.rand(count, *shape, generator=generator) for name, (shape, _) in CHANNELS.items()}
    channels["normal"] = torch.nn.functional.normalize(channels["normal"] - 0.5, dim=1)
    return replace(g, channels=channels)


def good(name: str, folder: Path) -> bytes:
    """A file of that format."""
    path = folder / FILES[name]
    if name == "ksplat":
        return _ksplat()
    warnings.simplefilter("ignore")
    options: dict[str, Any] = {"version": 3} if name == "spz3" else {}
    write_splat(sample(), path, **options)
    return path.read_bytes()


def _ksplat(count: int = 200) -> bytes:
    """Of level 1 and degree 1, in buckets of 64 and a partial one."""
    rng = random.Random(2)
    full, rest = divmod(count, 64)
    main = struct.pack("<2s2xIIIIH", b"\0\1", 1, 1, count, count, 1).ljust(4096, b"\0")
    section = struct.pack("<IIIIfH", count, count, 64, full + 1, 5.0, 12).ljust(24, b"\0")
    section = (section + struct.pack("<IIIIH", 32767, 0, full, 1, 1)).ljust(1024, b"\0")
    centers = struct.pack(f"<{3 * (full + 1)}f", *(rng.uniform(-1, 1) for _ in range(3 * (full + 1))))
    return main + section + struct.pack("<I", rest) + centers + bytes(rng.randrange(60) for _ in range(42 * count))


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
            out[at:at] = rng.choice((b"9", b"-", b"e9", b'"', b"null", b"[[[[", b"\n", b" 99999999 "))
        else:
            digits = [i for i in range(at, min(at + 400, len(out))) if 48 <= out[i] <= 57]
            for i in digits[: rng.randrange(1, 4)]:
                out[i] = rng.choice(b"0123456789-")
    return bytes(out)


def repacked(name: str, data: bytes, rng: random.Random) -> bytes:
    """Damaged inside a container that is whole."""
    if name == "spz3":
        return gzip.compress(mutated(gzip.decompress(data), rng), 1)
    if name == "gltf":
        size = struct.unpack_from("<I", data, 12)[0]
        text = mutated(data[20 : 20 + size], rng)
        text += b" " * (-len(text) % 4)
        rest = data[20 + size :]
        return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        files = {entry: bundle.read(entry) for entry in bundle.namelist()}
    victim = "meta.json" if rng.random() < 0.6 else rng.choice(list(files))
    files[victim] = mutated(files[victim], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        for entry, content in files.items():
            bundle.writestr(entry, content)
    return out.getvalue()


def fuzz(name: str, seconds: float, seed: int, keep: Path | None) -> dict[str, object]:
    """What happened, in this process."""
    rng, outcomes, failures = random.Random(seed), Counter(), []
    torch.set_num_threads(1)

    def hang(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {HANG} s of processor time")

    signal.signal(signal.SIGPROF, hang)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data, path = good(name, folder), folder / f"mutant{Path(FILES[name]).suffix}"
        path.write_bytes(data)
        decoded = read_splat(path)
        held = sum(t.nbytes for t in decoded.tensors().values())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        end = time.process_time() + seconds
        while time.process_time() < end:
            inside = name in ("spz3", "gltf", "sog") and rng.random() < 0.5
            mutant = repacked(name, data, rng) if inside else mutated(data, rng)
            path.write_bytes(mutant)
            signal.setitimer(signal.ITIMER_PROF, HANG)
            try:
                read_splat(path)
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
                    (keep / f"{name}-{outcomes['failed']}{path.suffix}").write_bytes(mutant)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    allowed = 10 * (len(data) + held) + SLACK
    if grown > allowed:
        outcomes["failed"] += 1
        failures.append(f"grew by {grown >> 20} MiB; at most {allowed >> 20} are allowed")
    return {"files": sum(outcomes.values()), **outcomes, "grown_mib": grown >> 20, "failures": failures[:5]}


def main() -> int:
    """Every format in a process of its own; one result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time, for each format")
    parser.add_argument("--formats", nargs="*", choices=FILES, default=list(FILES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that fail")
    parser.add_argument("--here", choices=FILES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(fuzz(arguments.here, arguments.seconds, arguments.seed, arguments.keep)))
        return 0
    detail: dict[str, object] = {"title": "Damaged splat files read without a crash, a hang or much memory"}
    total = failed = 0
    for name in arguments.formats:
        command = [sys.executable, "-m", "benchmarks.fuzz_formats", "--here", name, "--seconds", str(arguments.seconds)]
        command += ["--seed", str(arguments.seed), *(["--keep", str(arguments.keep)] if arguments.keep else [])]
        found: dict[str, Any] = {"files": 0, "failed": 1}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=PATIENCE * (arguments.seconds + 20)
            )
            if done.returncode:
                found["failures"] = [f"died with {done.returncode}: {done.stderr[-500:]}"]
            else:
                found = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            found["failures"] = ["never ended: what hangs doesn't come back to Python"]
        for text in found.pop("failures"):
            print(f"{name}: {text}", file=sys.stderr)
        print(name, found, file=sys.stderr, flush=True)
        detail[name] = found
        total += found["files"]
        failed += found.get("failed", 0)
    detail |= {"failed": failed, "processor seconds of each": arguments.seconds}
    record("fuzz_formats", total, "files", detail=detail)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
