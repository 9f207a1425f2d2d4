"""UniLumos (arXiv 2511.01678) and Lumen: Wan's transformer, trained to relight films that it is shown.

Both take 48 channels: the noisy latents, and two films beside them.  UniLumos: the film to be relit, and the
background (zeros: relit where it is).  Lumen, a child of Wan2.1-Fun-1.3B-Control: the foreground; what its other 16
channels are given we don't know, and give zeros.  Weights are published in Wan's own layout, whose names diffusers
changes; they have to be made .safetensors first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relight.diffusion.protocol import Condition
from relight.diffusion.public.diffusers_model import Schedule
from relight.diffusion.public.place import Place
from relight.diffusion.public.video_models import VideoModel, Words
from relight.diffusion.samplers import Sampling, sample
from relight.errors import RelightError

SHOWN = 2
"""Films beside the noisy one."""


class TrainedVideo:
    """background: does it take one?"""

    def __init__(self, denoiser: VideoModel, background: bool, sampling: Sampling):
        if denoiser.map_channels != SHOWN * denoiser.channels:
            raise RelightError(
                f"video relighter: its transformer takes {denoiser.map_channels} channels beside the noisy ones; "
                f"expected {SHOWN * denoiser.channels}, two films"
            )
        self.denoiser, self.background, self.sampling = denoiser, background, sampling

    @torch.no_grad()
    def relight(
        self,
        frames: Tensor,
        prompt: str,
        *,
        background: Tensor | None = None,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(F, 3, H, W), clamped, of (F, 3, H, W), -1 to 1; sides multiples of 16.  Raises RelightError."""
        if background is not None and not self.background:
            raise RelightError("lumen: paints its own background from the text; unilumos takes one")
        model = self.denoiser
        shown = model.encode(frames)
        behind = torch.zeros_like(shown) if background is None else model.encode(background)
        told = Condition(torch.cat([shown, behind], 1), model.words(prompt))
        # Guidance leads away from the text alone: the films are what is relit, not a wish.
        away = Condition(told.maps, model.words(""))
        made = sample(
            model, sampling or self.sampling, tuple(shown.shape), told, without=away, generator=generator,
            device=frames.device,
        )  # fmt: skip
        return model.decode(made, len(frames)).clamp(-1, 1)


def load(place: Place) -> TrainedVideo:
    """Wan's VAE and words from the base; the transformer's shape, too, but for its first layer."""
    with place.reading(place.base):
        import diffusers
        import transformers
        from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
    weights = place.tensors(place.published.file)
    base: Any = place.part(diffusers.WanTransformer3DModel, place.base, "transformer")
    config = {**base.config, "in_channels": (1 + SHOWN) * int(base.config.out_channels)}
    with place.reading(place.source):
        network: Any = diffusers.WanTransformer3DModel.from_config(config)
        own = (
            weights
            if "condition_embedder.time_proj.weight" in weights
            else convert_wan_transformer_to_diffusers(weights)
        )
        missing, unknown = network.load_state_dict(own, strict=False)
    if missing:
        raise place.error(place.source, f"lacks {len(missing)} weights of Wan's transformer, such as {missing[0]}")
    # UniLumos has an embedding of the step's length, for shortcuts; here steps are short and it isn't told them.
    odd = [name for name in unknown if "step" not in name and "_d_" not in name]
    if odd:
        raise place.error(place.source, f"has {len(odd)} weights that Wan's transformer hasn't, such as {odd[0]}")
    words = Words(
        place.part(transformers.AutoTokenizer, place.base, "tokenizer", weights=False),
        place.part(transformers.UMT5EncoderModel, place.base, "text_encoder"), 512, zeros=True,
    )  # fmt: skip
    vae = place.part(diffusers.AutoencoderKLWan, place.base, "vae")
    model = VideoModel(network.float().eval(), Schedule("flow_prediction"), vae, words)
    unilumos = place.name == "unilumos"
    sampling = Sampling("flow", 25, 6.0, {"shift": 8.0}) if unilumos else Sampling("flow", 50, 5.0, {"shift": 5.0})
    return TrainedVideo(model, unilumos, sampling)
