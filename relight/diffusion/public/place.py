"""Where published weights are: a folder, the hub's copy on this machine, or nowhere yet."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from relight.diffusion.public.diffusers_model import Schedule
from relight.errors import BackendUnavailableError, DataError


@dataclass(frozen=True)
class Published:
    """module: of ours that loads it.  hub: repository; file: the one of it that is needed, "" for all.  base: that of
    the model that it adds to.  does, licence: in a few words.
    """

    module: str
    hub: str
    file: str
    base: str | None
    does: str
    licence: str


@dataclass(frozen=True)
class Place:
    """source, base: folders (or a file), or hub names.  download: fetch what this machine has no copy of.

    Weights are read as float32, whatever they are kept as.
    """

    name: str
    published: Published
    source: str
    base: str
    download: bool

    @contextmanager
    def reading(self, source: str) -> Iterator[None]:
        """Errors of libraries become a DataError that says what to fetch and where to put it."""
        try:
            with warnings.catch_warnings():
                # Diffusers' own business with the hub's library.
                warnings.filterwarnings("ignore", ".*local_dir_use_symlinks")
                yield
        except ImportError as error:
            raise BackendUnavailableError(
                f"public model {self.name}: needs {error.name or error}; pip install 'relight[diffusion]' installs it"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, SafetensorError) as error:
            raise self.error(
                source, str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            ) from error

    def error(self, source: str, why: str) -> DataError:
        """Of the source or the base."""
        is_base = source == self.base != self.source
        hub, file = (self.published.base, "") if is_base else (self.published.hub, self.published.file)
        where = "folder" if Path(source).exists() else "no folder here, and no copy of the hub's on this machine"
        fetch = f"hf download {hub}{f' {file}' if file else ''} --local-dir FOLDER"
        return DataError(
            f"public model {self.name}: {'its base ' if is_base else ''}{source} can't be read ({where}: {why}); "
            f"`{fetch}` fetches it: give FOLDER as {'base' if is_base else 'source'}, or ask for the download. "
            "Weights must be .safetensors"
        )

    def part(self, kind: Any, source: str, folder: str | None = None, weights: bool = True) -> Any:
        """A network (or, without weights, a scheduler or tokenizer) of a library's class, from a sub-folder."""
        options: dict[str, Any] = {"local_files_only": not self.download}
        if folder is not None:
            options["subfolder"] = folder
        if weights:
            options["use_safetensors"] = True
        with self.reading(source):
            made = kind.from_pretrained(source, **options)
        return made.float().eval().requires_grad_(False) if weights else made

    def path(self, name: str) -> Path:
        """Of one file of the source; the source itself where it is a file."""
        here = Path(self.source)
        if here.is_file():
            return here
        if here.is_dir():
            if not (here / name).is_file():
                raise self.error(self.source, f"has no {name}")
            return here / name
        with self.reading(self.source):
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(self.source, name, local_files_only=not self.download))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Of one .safetensors file of the source."""
        path = self.path(name)
        if path.suffix != ".safetensors":
            raise self.error(self.source, f"{path.name} is not .safetensors; convert it")
        with self.reading(self.source):
            return load_file(path)

    def settings(self, name: str) -> dict[str, Any]:
        """Of one JSON file of the source."""
        with self.reading(self.source):
            return json.loads(self.path(name).read_text("utf-8"))

    def stable_diffusion(self) -> StableDiffusion:
        """The base, whole."""
        with self.reading(self.base):
            import diffusers

            pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
                self.base, local_files_only=not self.download, use_safetensors=True,
                safety_checker=None, feature_extractor=None, requires_safety_checker=False,
            )  # fmt: skip
        return StableDiffusion(pipeline)


class StableDiffusion:
    """Network, VAE, words and noise of Stable Diffusion in the folder layout of diffusers."""

    def __init__(self, pipeline: Any):
        self.pipeline, self.network, self.vae = pipeline, pipeline.unet, pipeline.vae
        self.schedule = Schedule.of(pipeline.scheduler)

    @torch.no_grad()
    def words(self, *prompts: str) -> Tensor:
        """(B, L, D) of B prompts; what is longer than L tokens is cut."""
        encoder = self.pipeline.text_encoder.to(self.network.device)
        return self.pipeline.encode_prompt(list(prompts), encoder.device, 1, False)[0]
