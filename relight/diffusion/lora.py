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
    told = {key.split(".lora")[0] for key in tensors if key.startswith("unet.") and ".lora" in key}
    layers = {f"unet.{n}" for n, _ in network.named_modules()}
    missing = sorted(told - layers)
    if not told or missing:
        found = f"{len(missing)} of its {len(told)} layers are not there, as {missing[0]}" if told else "none of a U-Net"
        raise DataError(f"{source}: is a LoRA for another network ({found}); expected one for {type(network).__name__}")
    unet = {key: value for key, value in tensors.items() if key.startswith("unet.")}
    try:
        Loader.load_lora_into_unet(unet, alphas, network, adapter_name=name)
    except (RuntimeError, ValueError) as error:
        if name in getattr(network, "peft_config", {}):
            network.delete_adapters(name)
        raise DataError(f"{source}: is a LoRA for another network ({str(error).splitlines()[0]})") from error
    network.set_adapters([name], [scale])
    network.requires_grad_(False)
