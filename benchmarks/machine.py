"""What a number was measured on: processor, instruction sets, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2")
"""The instruction sets, in LLVM's names, that change what our kernels compile to."""
PACKAGES = ("relight", "torch", "numpy", "numba", "llvmlite", "gsplat")


def machine() -> dict[str, object]:
    """cpu: model name.  cores: logical, usable by this process.  simd: of `SIMD`.  memory_gib, system, gpu: or None."""
    import torch
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "simd": [name for name in SIMD if features.get(name)],
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str]:
    """Python's version and those of the packages in `PACKAGES` that are installed."""
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {"python": platform.python_version()} | {name: installed[name] for name in PACKAGES if name in installed}


def commit(repository: Path) -> str | None:
    """The short commit id of the repository, with a `+` if tracked files differ from it; None without git."""
    try:
        head = subprocess.run(
            ["git", "-C", str(repository), "rev-parse", "--short=10", "HEAD"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
        changed = subprocess.run(
            ["git", "-C", str(repository), "diff", "--quiet", "HEAD", "--", "relight", "benchmarks/*.py"],
            capture_output=True, timeout=30, check=False,
        ).returncode  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None
