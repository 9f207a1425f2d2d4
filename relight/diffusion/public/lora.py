"""Low-rank additions to a U-Net, such as those that make it need few steps (LCM-LoRA, Hyper-SD)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relight.errors import DataError


def load_lora(
    network: Any,
    source: str | Path,
    *,
    file: str | None = None,
    scale: float = 1.0,
    name: str = "relight",
    download: bool = False,
) -> None:
    """Add the LoRA of a .safetensors file, a folder or a hub's name to a U-Net of diffusers, in place, by peft.

    file: which of a folder or repository.  scale: of the addition.  name: for `network.set_adapters([names], [scales])`
    and `network.delete_adapters(name)`, where there are several.  download: fetch what isn't on this machine yet.
    Diffusers' and kohya's names of layers are known; what a file says of a text encoder is left out.
    Raises DataError, and leaves the network as it was, for a file that is missing or that is for another network.
    """
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    path = Path(source)
    if path.is_file():
        source, file = path.parent, path.name
    if file is not None and not file.endswith(".safetensors"):
        raise DataError(f"{source}/{file}: LoRAs are read from .safetensors alone; convert it")
    try:
        tensors, alphas = Loader.lora_state_dict(
            str(source), weight_name=file, use_safetensors=True, local_files_only=not download,
            unet_config=network.config,
        )[:2]  # fmt: skip
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise DataError(
            f"{source}: no LoRA could be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            f"give a .safetensors file, or `hf download {source}` it first"
        ) from error
    unet = {key: value for key, value in tensors.items() if key.startswith("unet.")}
    wrong = _misfits(network, unet)
    if wrong or not unet:
        found = f"{len(wrong)} layers don't fit, as {wrong[0]}" if wrong else "nothing for a U-Net"
        raise DataError(f"{source}: is a LoRA for another network ({found}); expected one for this model")
    Loader.load_lora_into_unet(unet, alphas, network, adapter_name=name)
    network.set_adapters([name], [scale])
    network.requires_grad_(False)


def _misfits(network: Any, tensors: dict[str, Any]) -> list[str]:
    """Layers that the network hasn't, or has in another size."""
    from diffusers.utils import convert_unet_state_dict_to_peft

    layers, wrong = dict(network.named_modules()), set()
    for key, value in convert_unet_state_dict_to_peft({k.removeprefix("unet."): v for k, v in tensors.items()}).items():
        layer, _, part = key.partition(".lora_")
        weight = getattr(layers.get(layer), "weight", None)
        if weight is None or (part in ("A.weight", "B.weight") and _side(value, part) != _side(weight, part)):
            wrong.add(layer)
    return sorted(wrong)


def _side(weight: Any, part: str) -> int:
    """What A takes and B makes."""
    return int(weight.shape[1 if part.startswith("A") else 0])
