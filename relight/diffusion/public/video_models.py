"""Video diffusion models of diffusers as `Denoiser`s whose batch is one film: AnimateDiff, Wan, CogVideoX.

A film of F frames is (f, channels, h, w) latents in order, where f is F or, for what is compressed in time, fewer.  So
samplers, guidance and hooks that were written for pictures go with films.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from relight.diffusion.protocol import NOTHING, Condition
from relight.diffusion.public.diffusers_model import Coder, Schedule
from relight.diffusion.public.place import Place
from relight.diffusion.samplers import Sampling
from relight.errors import RelightError, ShapeError

SAMPLINGS = {
    "UNetMotionModel": Sampling("ddim", 25, 2.0),
    "WanTransformer3DModel": Sampling("flow", 25, 2.0, {"shift": 3.0}),
    "CogVideoXTransformer3DModel": Sampling("ddim", 25, 2.0),
}
"""As Light-A-Video samples each."""


class VideoModel:
    """See the module.  words: texts to (B, L, D) embeddings.  Raises RelightError for other networks.

    `Condition.maps`: (f, C, h, w) beside the noisy latents, after them; only for networks that take more channels than
    they make (Wan's relatives); None is zeros.  `Condition.tokens`: (1, L, D).
    """

    def __init__(self, network: Any, schedule: Schedule, vae: Any, words: Any, sampling: Sampling | None = None):
        self.kind = type(network).__name__
        if self.kind not in SAMPLINGS:
            raise RelightError(f"video model: {self.kind} is not known; expected {', '.join(SAMPLINGS)}")
        if network.config.get("use_rotary_positional_embeddings"):
            raise RelightError("video model: CogVideoX with rotary embeddings (5b) is not known here; use CogVideoX-2b")
        self.network, self.schedule, self.vae, self.words = network, schedule, vae, words
        self.sampling = sampling or SAMPLINGS[self.kind]
        for module in (network, vae):
            if isinstance(module, nn.Module):
                module.eval().requires_grad_(False)
        self.channels = int(network.config.out_channels or network.config.in_channels)
        self.map_channels = int(network.config.in_channels) - self.channels

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> VideoModel:
        """Move the networks; itself."""
        for module in (self.network, self.vae):
            module.to(device)
            if dtype is not None:
                module.to(dtype=dtype)
        return self

    @property
    def squeeze(self) -> tuple[int, int]:
        """Frames that become one latent after the first, and pixels along a side of a patch of the network."""
        if self.kind == "UNetMotionModel":
            deep = 2 ** (len(self.network.config.block_out_channels) - 1)
            return 1, deep * 2 ** (len(self.vae.config.block_out_channels) - 1)
        patch = self.network.config.patch_size
        patch = patch if isinstance(patch, int) else patch[-1]
        if self.kind == "WanTransformer3DModel":
            halved = self.vae.config.temperal_downsample
            return 2 ** sum(halved), patch * 2 ** len(halved)
        ratio = int(self.vae.config.temporal_compression_ratio)
        return ratio, patch * 2 ** (len(self.vae.config.block_out_channels) - 1)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Denoiser`."""
        return self.schedule.rates(t)

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """See `Denoiser`.  Raises ShapeError."""
        if noisy.ndim != 4 or noisy.shape[1] != self.channels:
            raise ShapeError.expected("noisy film", f"(f, {self.channels}, h, w)", tuple(noisy.shape))
        kind = next(self.network.parameters()).dtype
        tokens = self.words("") if condition.tokens is None else condition.tokens
        tokens, time = tokens.to(noisy.device, kind)[:1], self.schedule.told(t[:1]).to(kind)
        film = noisy if not self.map_channels else torch.cat([noisy, self._maps(noisy, condition)], 1)
        if self.kind == "CogVideoXTransformer3DModel":
            said = self.network(film[None].to(kind), tokens, time, return_dict=False)[0][0]
        else:
            if self.kind == "UNetMotionModel":
                tokens = tokens.expand(len(noisy), -1, -1)
            given = film.transpose(0, 1)[None].to(kind)
            said = self.network(given, time, encoder_hidden_states=tokens, return_dict=False)[0][0].transpose(0, 1)
        return self.schedule.clean(noisy, t, said.to(noisy.dtype))

    def _maps(self, noisy: Tensor, condition: Condition) -> Tensor:
        shape = (len(noisy), self.map_channels, *noisy.shape[-2:])
        if condition.maps is None:
            return noisy.new_zeros(shape)
        if tuple(condition.maps.shape) != shape:
            raise ShapeError.expected("maps beside the noisy film", str(shape), tuple(condition.maps.shape))
        return condition.maps

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(f, channels, h, w) of (F, 3, H, W), -1 to 1.  The last frame is repeated until f is whole.

        Raises ShapeError for sides that aren't multiples of `squeeze`'s.
        """
        many, side = self.squeeze
        if frames.ndim != 4 or frames.shape[1] != 3 or any(n % side for n in frames.shape[-2:]):
            raise ShapeError.expected("frames", f"(F, 3, H, W), sides multiples of {side}", tuple(frames.shape))
        if many == 1:
            return Coder(self.vae).encode(frames)
        more = -(len(frames) - 1) % many
        film = torch.cat([frames, frames[-1:].expand(more, -1, -1, -1)]).transpose(0, 1)[None]
        latents = self.vae.encode(film.to(self.vae.dtype)).latent_dist.mode()
        shift, scale = self._scaling(latents)
        return ((latents - shift) * scale)[0].transpose(0, 1).to(frames.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor, count: int) -> Tensor:
        """(count, 3, H, W), about -1 to 1, of (f, channels, h, w)."""
        if self.squeeze[0] == 1:
            return Coder(self.vae).decode(latents)[:count]
        film = latents.transpose(0, 1)[None]
        shift, scale = self._scaling(film)
        made = self.vae.decode((film / scale + shift).to(self.vae.dtype), return_dict=False)[0]
        return made[0].transpose(0, 1)[:count].to(latents.dtype)

    def _scaling(self, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
        config = self.vae.config
        if "latents_mean" not in config or config.latents_mean is None:
            return 0.0, float(config.scaling_factor)
        mean, std = (
            latents.new_tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std)
        )
        return mean, 1 / std


class Words:
    """Texts to embeddings by a T5 of transformers, as Wan (UMT5) and CogVideoX (T5) are told them: padded by zeros
    (Wan) or as the encoder says (CogVideoX)."""

    def __init__(self, tokenizer: Any, encoder: Any, length: int, zeros: bool):
        self.tokenizer, self.encoder, self.length, self.zeros = tokenizer, encoder, length, zeros

    @torch.no_grad()
    def __call__(self, *prompts: str) -> Tensor:
        """(B, length, D)."""
        read = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        if not self.zeros:
            return self.encoder(read.input_ids.to(self.encoder.device))[0]
        mask = read.attention_mask.to(self.encoder.device)
        return self.encoder(read.input_ids.to(mask.device), mask)[0] * mask[..., None]


def load(place: Place) -> LoadedVideo:
    """`animatediff`, `wan` or `cogvideox`."""
    with place.reading(place.source):
        import diffusers
        import transformers
    if place.name == "animatediff":
        base = place.stable_diffusion()
        adapter = place.part(diffusers.MotionAdapter, place.source)
        with place.reading(place.source):
            network: Any = diffusers.UNetMotionModel.from_unet2d(base.network, adapter)
        return LoadedVideo(VideoModel(network, base.schedule, base.vae, base.words))
    wan = place.name == "wan"
    kinds: Any = (
        (diffusers.WanTransformer3DModel, diffusers.AutoencoderKLWan, transformers.UMT5EncoderModel)
        if wan
        else (diffusers.CogVideoXTransformer3DModel, diffusers.AutoencoderKLCogVideoX, transformers.T5EncoderModel)
    )
    network, vae, encoder = (
        place.part(kind, place.source, folder)
        for kind, folder in zip(kinds, ("transformer", "vae", "text_encoder"), strict=True)
    )
    tokenizer = place.part(transformers.AutoTokenizer, place.source, "tokenizer", weights=False)
    if wan:
        schedule = Schedule("flow_prediction")
    else:
        schedule = Schedule.of(place.part(diffusers.CogVideoXDDIMScheduler, place.source, "scheduler", weights=False))
    length = 512 if wan else int(network.config.max_text_seq_length)
    return LoadedVideo(VideoModel(network, schedule, vae, Words(tokenizer, encoder, length, zeros=wan)))


class LoadedVideo:
    """What `public.load` gives: the model is its `denoiser`."""

    def __init__(self, denoiser: VideoModel):
        self.denoiser = denoiser
