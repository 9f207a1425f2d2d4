"""Networks of our own as files: weights in half precision, and in the header what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from relight.atomic import replacing
from relight.diffusion.own.network import PriorError
from relight.plugins import did_you_mean

BUNDLED = Path(__file__).parent / "weights"

N = TypeVar("N", bound=nn.Module)


def bundled(header: str) -> list[str]:
    """Names of the files that come with the package and have this entry in their header."""
    names = []
    for path in sorted(BUNDLED.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if header in (file.metadata() or {}):
                names.append(path.stem)
    return names


def read(
    source: str | Path, header: str, what: str, made: Callable[[Mapping[str, Any]], N]
) -> tuple[N, dict[str, str]]:
    """The network of a file, or of a name among `bundled`, and what else its header says.

    header: its entry that says, as JSON, what `made` makes a network of.  what: how messages call it.
    Raises PriorError for files that are missing, damaged or of something else.
    """
    known = bundled(header)
    path = BUNDLED / f"{source}.safetensors" if str(source) in known else Path(source)
    if not path.is_file():
        hint = did_you_mean(str(source), known)
        raise PriorError(f"{what} {str(source)!r}: neither a file nor one that comes with relight{hint}")
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        network = made(json.loads(said[header]))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        # No safetensors at all, or those of something else.
        article = "an" if what[0] in "aeiou" else "a"
        raise PriorError(
            f"{path}: not the weights of {article} {what} ({error}); python -m relight.diffusion.own.train makes one"
        ) from error
    try:
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise PriorError(f"{path}: its weights don't fit what it says it is: {error}") from error
    return network, {k: v for k, v in said.items() if k != header}


def write(path: Path, network: nn.Module, header: str, values: Mapping[str, Any], info: Mapping[str, str]) -> None:
    """Inverse of `read`: `values` are what the network is made of."""
    tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    with replacing(path) as part:
        save_file(tensors, part, {**info, header: json.dumps(dict(values))})
