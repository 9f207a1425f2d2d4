"""Weights that others published, one file a model, each behind the same protocol as our own priors.

    model = load("ic-light-fc", "models/ic-light", base="models/sd15")
    lit = model.relight(picture, "sunset over the sea", light="left", generator=generator)

Nothing comes with relight, and nothing is fetched unless `download` says so.  Weights are read from .safetensors alone,
and no code of a repository is run.  Pictures are (B, 3, H, W), sRGB-encoded, -1 to 1, sides multiples of 8.
docs/public_weights.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from relight.diffusion.public.place import Place, Published
from relight.errors import RelightError
from relight.plugins import did_you_mean, load_target

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
WAN = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
SD21 = "stabilityai/stable-diffusion-2-1"
SD21_BASE = "stabilityai/stable-diffusion-2-1-base"
_SD = "CreativeML OpenRAIL-M for the base; "

MODELS: Mapping[str, Published] = MappingProxyType(
    {
        "ic-light-fc": Published(
            "ic_light", "lllyasviel/ic-light", "iclight_sd15_fc.safetensors", SD15,
            "lights the foreground of a picture as a text says, or from a side",
            _SD + "code Apache-2.0, weights: check the card",
        ),
        "ic-light-fbc": Published(
            "ic_light", "lllyasviel/ic-light", "iclight_sd15_fbc.safetensors", SD15,
            "lights the foreground of a picture as its new background does",
            _SD + "code Apache-2.0, weights: check the card",
        ),
        "dreammat": Published(
            "dreammat", "zzzyuqing/light-geo-controlnet", "", SD21_BASE,
            "knows geometry and light of what it paints: a light-aware teacher for materials",
            "OpenRAIL++-M for the base; code MIT, weights: check the card",
        ),
        "marigold-iid-appearance": Published(
            "marigold", "prs-eth/marigold-iid-appearance-v1-1", "", None,
            "base colour, roughness and metalness of a picture",
            "OpenRAIL type: check the card",
        ),
        "marigold-iid-lighting": Published(
            "marigold", "prs-eth/marigold-iid-lighting-v1-1", "", None,
            "base colour, diffuse shading and the rest of a picture",
            "OpenRAIL type: check the card",
        ),
        "stable-materials": Published(
            "stable_materials", "gvecchio/StableMaterials", "", None,
            "tileable material maps from a text or a picture, 50 steps",
            "OpenRAIL: check the card",
        ),
        "stable-materials-lcm": Published(
            "stable_materials", "gvecchio/StableMaterials", "", None,
            "tileable material maps from a text or a picture, 4 steps",
            "OpenRAIL: check the card",
        ),
        "dilightnet": Published(
            "dilightnet", "DiLightNet/DiLightNet", "", SD21,
            "lights an object as renders of its rough shape under the new light say",
            "OpenRAIL++-M for the base; code MIT type, weights: check the card",
        ),
        "neural-gaffer": Published(
            "neural_gaffer", "coast01/Neural_Gaffer", "model.safetensors", "kxic/zero123-xl",
            "lights an object by an environment map, 256 x 256",
            "tagged MIT: check the card, and that of the base",
        ),
        "animatediff": Published(
            "video_models", "guoyww/animatediff-motion-adapter-v1-5-3", "", SD15,
            "keeps films consistent, 16 frames of 512 x 512",
            _SD + "code Apache-2.0, weights: check the card",
        ),
        "wan": Published(
            "video_models", WAN, "", None, "keeps films consistent, 49 frames of 832 x 480",
            "Apache-2.0: check the card",
        ),
        "cogvideox": Published(
            "video_models", "THUDM/CogVideoX-2b", "", None, "keeps films consistent, 49 frames of 720 x 480",
            "Apache-2.0: check the card",
        ),
        "unilumos": Published(
            "lumos_video", "Alibaba-DAMO-Academy/UniLumos", "unilumos.safetensors", WAN,
            "relights films as a text or a background film says",
            "check the card",
        ),
        "lumen": Published(
            "lumos_video", "Kunbyte/Lumen", "lumen.safetensors", WAN,
            "relights the foreground of films and paints a background as a text says",
            "code Apache-2.0, weights: check the card",
        ),
    }
)  # fmt: skip
"""Name to what it is.  None of these was run with its real weights in relight's tests; see docs/public_weights.md."""


def load(
    name: str,
    source: str | None = None,
    *,
    base: str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A model of `MODELS`, ready to use.

    source: a folder or file with its weights, or a hub's name; None is the published place, of which the machine may
    have a copy.  base: the same for the model that it adds to, where there is one.  download: fetch what is missing.
    dtype: of network and VAE; pictures stay float32.
    Raises DataError that says what to fetch and where to put it, RelightError for an unknown name.
    """
    if name not in MODELS:
        raise RelightError(f"unknown public model {name!r}{did_you_mean(name, MODELS)}")
    published = MODELS[name]
    if base is not None and published.base is None:
        raise RelightError(f"public model {name}: is complete by itself and takes no base (got {base!r})")
    place = Place(name, published, source or published.hub, base or published.base or "", download)
    model: Any = load_target(f"relight.diffusion.public.{published.module}:load", f"public model {name}")
    made = model(place)
    made.denoiser.to(device, dtype)
    return made
