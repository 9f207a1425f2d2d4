"""Any U-Net of diffusers as a `Denoiser`: whatever it predicts, in pixels or latents, with a ControlNet or without."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from relight.diffusion.protocol import NOTHING, Condition
from relight.errors import RelightError, ShapeError

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
"""What a network may say, in the words of diffusers: the noise; a n - s x; the picture; n - x."""


@dataclass(frozen=True)
class Schedule:
    """How much noise a network was trained with at each of its steps, and what it was taught to say.

    prediction: one of `PREDICTIONS`.  alphas: (N,) of training step k the squared share a^2 of the picture ("alphas
    cumprod"), variance preserving; step -1 would be clean.  None: straight lines, a = 1 - t.  steps: N.
    """

    prediction: str
    alphas: Tensor | None = None
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise RelightError(f"prediction {self.prediction!r} is unknown; there are: {', '.join(PREDICTIONS)}")

    @staticmethod
    def of(scheduler: Any) -> Schedule:
        """Of a scheduler of diffusers: its noise and prediction; how it steps does not matter here."""
        config = scheduler.config
        steps = int(config.num_train_timesteps)
        if type(scheduler).__name__.startswith("Flow") or config.get("use_flow_sigmas", False):
            return Schedule("flow_prediction", steps=steps)
        if not hasattr(scheduler, "alphas_cumprod"):
            raise RelightError(
                f"scheduler {type(scheduler).__name__}: says neither its alphas nor that it is a flow; give the one "
                "that the network was trained with"
            )
        return Schedule(config.prediction_type, scheduler.alphas_cumprod.double().cpu(), steps)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Denoiser.rates`.  Time t is training step t N - 1 of alphas, and t N of a flow."""
        if self.alphas is None:
            return 1 - t, t
        a = self.alphas.clamp(0, 1)
        share = (1 - a).sqrt() / ((1 - a).sqrt() + a.sqrt())
        f = np.interp(t.detach().cpu().double().numpy(), np.arange(self.steps + 1) / self.steps, [0.0, *share.tolist()])
        length = np.hypot(f, 1 - f)
        return torch.from_numpy((1 - f) / length).to(t), torch.from_numpy(f / length).to(t)

    def clean(self, noisy: Tensor, t: Tensor, said: Tensor) -> Tensor:
        """(B, ...) the picture behind (B, ...) at (B,) times, of what a network says of it."""
        a, s = (rate.view(-1, *[1] * (noisy.ndim - 1)) for rate in self.rates(t))
        match self.prediction:
            case "epsilon":
                return (noisy - s * said) / a
            case "v_prediction":
                return a * noisy - s * said
            case "flow_prediction":
                return noisy - s * said
            case _:
                return said

    def told(self, t: Tensor) -> Tensor:
        """(B,) the number that a network knows (B,) times by."""
        return t * self.steps if self.alphas is None else (t * self.steps - 1).clamp(min=0)


@dataclass(frozen=True)
class Coder:
    """Pictures and latents of a VAE of pictures."""

    vae: Any

    @property
    def factor(self) -> int:
        """Pixels a side of one latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, n C', H / factor, W / factor) of (B, n C, H, W) from -1 to 1, where the VAE takes C at once.

        The middle of the VAE's distribution, not a sample of it.  Raises ShapeError.
        """
        takes, size = int(self.vae.config.in_channels), self.factor
        if pictures.ndim != 4 or pictures.shape[1] % takes or any(n % size for n in pictures.shape[-2:]):
            raise ShapeError.expected(
                "picture to encode", f"(B, n {takes}, H, W), sides multiples of {size}", tuple(pictures.shape)
            )
        coded = self.vae.encode(pictures.reshape(-1, takes, *pictures.shape[-2:]).to(self.vae.dtype))
        latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
        shift, scale = self._scaling()
        latents = ((latents - shift) * scale).to(pictures.dtype)
        return latents.reshape(len(pictures), -1, *latents.shape[-2:])

    def decode(self, latents: Tensor) -> Tensor:
        """(B, n C, H, W), about -1 to 1, of (B, n C', H / factor, W / factor).  Raises ShapeError."""
        takes = int(self.vae.config.latent_channels)
        if latents.ndim != 4 or latents.shape[1] % takes:
            raise ShapeError.expected("latents", f"(B, n {takes}, H, W)", tuple(latents.shape))
        shift, scale = self._scaling()
        flat = latents.reshape(-1, takes, *latents.shape[-2:]) / scale + shift
        pictures = self.vae.decode(flat.to(self.vae.dtype), return_dict=False)[0].to(latents.dtype)
        return pictures.reshape(len(latents), -1, *pictures.shape[-2:])

    def _scaling(self) -> tuple[float, float]:
        config = self.vae.config
        return float(config.get("shift_factor") or 0.0), float(config.get("scaling_factor") or 1.0)


class DiffusersModel:
    """A `Denoiser` of a `UNet2DModel`, a `UNet2DConditionModel` or what is called like them.

    With a VAE, "pictures" of the protocol are its latents, (B, channels, H / factor, W / factor) and of about unit
    variance; `encode` and `decode` lead there and back.  Without, they are pictures and both do nothing.

    `Condition.maps`: with a ControlNet (B, C, H, W) for it, at the size of pictures; None leaves it out.  Else (B, C,
    ...) laid beside the noisy picture, at its size, after it or (maps_first) before it; None is zeros.
    `Condition.tokens`: (B or 1, L, D) embeddings of text or pictures; None is `nothing`, (1, L, D).

    told_guidance: for networks with guidance distilled into them (`time_cond_proj_dim`), the scale they are told.
    """

    def __init__(
        self,
        network: Any,
        schedule: Schedule,
        *,
        vae: Any = None,
        controlnet: Any = None,
        control_scale: float = 1.0,
        nothing: Tensor | None = None,
        maps_first: bool = False,
        told_guidance: float | None = None,
    ):
        self.network, self.schedule, self.vae, self.controlnet = network, schedule, vae, controlnet
        self.control_scale, self.nothing, self.maps_first = control_scale, nothing, maps_first
        self.told_guidance = told_guidance
        for module in (network, vae, controlnet):
            if isinstance(module, nn.Module):
                module.eval().requires_grad_(False)
        self.channels = int(network.config.out_channels)
        self.map_channels = int(network.config.in_channels) - self.channels
        """Of `Condition.maps` that the network itself takes."""
        self._attends = "encoder_hidden_states" in inspect.signature(network.forward).parameters
        if self.map_channels < 0:
            raise RelightError(
                f"network: takes {network.config.in_channels} channels and makes {self.channels}; expected at least as "
                "many as it makes (learned variances are not known here)"
            )
        if network.config.get("addition_embed_type"):
            raise RelightError("network: wants more than tokens beside time (SDXL does), which is not known here")
        if controlnet is not None and self.map_channels:
            raise RelightError("network: takes maps itself; a ControlNet beside that is not known here")

    @property
    def factor(self) -> int:
        """Pixels a side of one latent."""
        return 1 if self.vae is None else Coder(self.vae).factor

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> DiffusersModel:
        """Move the networks; itself."""
        for module in (self.network, self.vae, self.controlnet):
            if module is not None:
                module.to(device)
                if dtype not in (None, module.dtype):
                    module.to(dtype=dtype)
        return self

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Denoiser`."""
        return self.schedule.rates(t)

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """See `Denoiser`.  Raises ShapeError."""
        return self.clean_until(noisy, t, t, condition)

    def clean_until(self, noisy: Tensor, t: Tensor, until: Tensor, condition: Condition = NOTHING) -> Tensor:
        """See `samplers.FlowMap`.  The step is told as the class embedding where the network has one of numbers."""
        return self.schedule.clean(noisy, t, self._predict(noisy, t, until, condition))

    @property
    def steps_known(self) -> bool:
        """Is the network told how far a step goes?"""
        return self.network.config.get("class_embed_type") == "timestep"

    def _predict(self, noisy: Tensor, t: Tensor, until: Tensor, condition: Condition) -> Tensor:
        if noisy.ndim != 4 or noisy.shape[1] != self.channels:
            raise ShapeError.expected("noisy picture", f"(B, {self.channels}, H, W)", tuple(noisy.shape))
        kind = next(self.network.parameters()).dtype
        count, time = len(noisy), self.schedule.told(t).to(kind)
        told: dict[str, Any] = {}
        if self._attends:
            tokens = self.nothing if condition.tokens is None else condition.tokens
            if tokens is None:
                raise RelightError("condition: has no tokens, and the model was given none that mean nothing")
            told["encoder_hidden_states"] = tokens.to(noisy.device, kind).expand(count, -1, -1)
        beside = [noisy.to(kind)]
        if self.map_channels:
            beside.insert(0 if self.maps_first else 1, self._maps(noisy, condition).to(kind))
        inputs = torch.cat(beside, 1)
        if self.controlnet is not None and condition.maps is not None:
            control = self._control(noisy, condition.maps).to(kind)
            down, middle = self.controlnet(
                inputs, time, told["encoder_hidden_states"], control, self.control_scale, return_dict=False
            )
            told |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if self.steps_known:
            told["class_labels"] = ((t - until) * self.schedule.steps).to(kind)
        if self.network.config.get("time_cond_proj_dim"):
            told["timestep_cond"] = guidance_embedding(
                self.told_guidance or 1.0, self.network.config.time_cond_proj_dim
            ).to(noisy.device, kind)
        return self.network(inputs, time, **told, return_dict=False)[0].to(noisy.dtype)

    def _maps(self, noisy: Tensor, condition: Condition) -> Tensor:
        shape = (len(noisy), self.map_channels, *noisy.shape[-2:])
        if condition.maps is None:
            return noisy.new_zeros(shape)
        if condition.maps.shape[1:] != shape[1:] or condition.maps.shape[0] not in (1, shape[0]):
            raise ShapeError.expected("maps beside the noisy picture", str(shape), tuple(condition.maps.shape))
        return condition.maps.expand(shape)

    def _control(self, noisy: Tensor, maps: Tensor) -> Tensor:
        channels = int(self.controlnet.config.conditioning_channels)
        shape = (len(noisy), channels, *(n * self.factor for n in noisy.shape[-2:]))
        if maps.shape[1:] != shape[1:] or maps.shape[0] not in (1, shape[0]):
            raise ShapeError.expected("maps of the ControlNet", str(shape), tuple(maps.shape))
        return maps.expand(shape)

    def encode(self, pictures: Tensor) -> Tensor:
        """See `Coder`; pictures as they are without a VAE."""
        return pictures if self.vae is None else Coder(self.vae).encode(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Coder`; latents as they are without a VAE."""
        return latents if self.vae is None else Coder(self.vae).decode(latents)


def guidance_embedding(scale: float, size: int) -> Tensor:
    """(1, size) of a guidance scale, as networks with guidance distilled into them are told it.

    Sines and cosines of 1000 (scale - 1) (Luo et al., Latent Consistency Models, arXiv 2310.04378).
    """
    half = size // 2
    angles = 1000.0 * (scale - 1) * torch.exp(torch.arange(half) * (-np.log(10000.0) / (half - 1)))
    waves = torch.cat([angles.sin(), angles.cos()])
    return nn.functional.pad(waves, (0, size - 2 * half))[None]


def widened(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The layer for more input channels, which at first count for nothing."""
    wide = nn.Conv2d(
        channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=layer.bias is not None  # type: ignore[arg-type]
    ).to(layer.weight)  # fmt: skip
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : layer.in_channels] = layer.weight
        if wide.bias is not None and layer.bias is not None:
            wide.bias.copy_(layer.bias)
    return wide


def widen(network: Any, channels: int) -> None:
    """Let a U-Net take (B, channels, H, W); what comes after its own channels counts for nothing at first."""
    if channels < network.conv_in.in_channels:
        raise RelightError(f"network: takes {network.conv_in.in_channels} channels already; cannot be made {channels}")
    network.conv_in = widened(network.conv_in, channels)
    network.register_to_config(in_channels=channels)
