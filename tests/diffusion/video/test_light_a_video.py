"""Shared attention and light fusion, over twins of published video models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_diffusion as tiny
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from relight.diffusion.light_words import LightDescription
from relight.diffusion.own.network import Config, Network
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import MAPS
from relight.diffusion.pictures.geometry import from_maps
from relight.diffusion.pictures.relighters import NewLight, Painter, PriorRelighter, RelighterError, ShadingRelighter
from relight.diffusion.protocol import Condition
from relight.diffusion.public import load
from relight.diffusion.public.diffusers_model import Schedule
from relight.diffusion.public.lumos_video import TrainedVideo
from relight.diffusion.public.video_models import VideoModel, Words
from relight.diffusion.samplers import Sampling, sample
from relight.diffusion.video.attention import ConsistentAttention, consistent, shared_layers
from relight.diffusion.video.fusion import FusedRelighter
from relight.diffusion.video.light_a_video import FilmRelighter, LightAVideo
from relight.diffusion.video.models import create_video_relighter
from relight.diffusion.video.protocol import Window
from relight.errors import DataError, RelightError, ShapeError

FRAMES, SIDE = 5, 32


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def words(*prompts: str) -> Tensor:
    return torch.stack([noise(3, tiny.TOKEN, seed=len(p)) for p in prompts])


# --- twins


def wan(takes: int = 4) -> VideoModel:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    torch.manual_seed(6)
    network = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=takes, out_channels=4, text_dim=tiny.TOKEN,
        freq_dim=16, ffn_dim=16, num_layers=1,
    )  # fmt: skip
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0],
    )  # fmt: skip
    tiny.stir(network)
    return VideoModel(network, Schedule("flow_prediction"), vae, words)


def cogvideox() -> VideoModel:
    import diffusers

    torch.manual_seed(7)
    network = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=2,
        text_embed_dim=tiny.TOKEN, num_layers=1, sample_width=8, sample_height=8, sample_frames=5,
        temporal_compression_ratio=4, max_text_seq_length=3,
    )  # fmt: skip
    blocks = 4
    coder: Any = diffusers.AutoencoderKLCogVideoX  # annotated more narrowly than it is
    vae = coder(
        down_block_types=("CogVideoXDownBlock3D",) * blocks, up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=(4,) * blocks, latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4,
    )  # fmt: skip
    kind: Any = diffusers.CogVideoXDDIMScheduler
    return VideoModel(network, Schedule.of(kind(prediction_type="v_prediction")), vae, words)


def animatediff() -> VideoModel:
    from diffusers import MotionAdapter, UNetMotionModel

    torch.manual_seed(8)
    adapter = MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=2
    )
    network: Any = UNetMotionModel.from_unet2d(tiny.unet(), adapter)
    return VideoModel(network, Schedule.of(tiny.scheduler()), tiny.vae(), words)


MODELS = {"wan": wan, "cogvideox": cogvideox, "animatediff": animatediff}


def window(count: int = FRAMES) -> Window:
    """A ball that goes right, lit from the left."""
    line = (torch.arange(SIDE) + 0.5) / (SIDE / 2) - 1
    frames, shapes, lights = [], [], []
    for i in range(count):
        y, x = torch.meshgrid(-line / 0.7, (line - 0.04 * i) / 0.7, indexing="ij")
        z = (1 - x * x - y * y).clamp_min(0).sqrt()
        mask = x * x + y * y < 1
        shape = from_maps(mask, normal=torch.stack([x, y, z], -1))
        said = LightDescription.parse("right soft")
        frames.append(torch.where(mask, 0.3 + 0.4 * z, 0.0)[..., None].expand(-1, -1, 3).contiguous())
        shapes.append(shape)
        lights.append(NewLight(said.lights(shape.world_from_viewer, shape.middle, shape.radius), 0.5, said))
    return Window(frames, shapes, lights)


# --- attention


def test_attention_to_the_mean_is_that_of_mean_keys_and_values():
    network = tiny.unet()
    attn = network.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    hidden = noise(4, 6, 8)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    q, k, v = (heads(layer(hidden)) for layer in (attn.to_q, attn.to_k, attn.to_v))

    def out(keys: Tensor, values: Tensor) -> Tensor:
        share = (q @ keys.mT / q.shape[-1] ** 0.5).softmax(-1)
        return attn.to_out[0]((share @ values).transpose(1, 2).flatten(2))

    mean = [x.mean(0, keepdim=True).expand_as(x) for x in (k, v)]
    expected = 0.3 * out(k, v) + 0.7 * out(*mean)
    shared = ConsistentAttention(attn.processor, 0.7)
    assert torch.allclose(shared(attn, hidden), expected, atol=1e-5)
    first = torch.zeros(4, 4)
    first[:, 0] = 1
    to_first = ConsistentAttention(attn.processor, 1.0, first)(attn, hidden)
    assert torch.allclose(to_first, out(*(x[:1].expand_as(x) for x in (k, v))), atol=1e-5)
    text = noise(4, 3, 8)
    assert torch.equal(shared(attn, hidden, text), attn.processor(attn, hidden, text))


def test_frames_agree_more_with_shared_attention_and_the_network_is_left_as_it_was():
    torch.manual_seed(0)
    prior = Prior(Network(Config("relight", 3, MAPS, widths=(16, 16, 16), detail=4, token=16)))
    tiny.stir(prior.network)
    maps = Condition(noise(4, MAPS, 16, 16))

    def spread() -> float:
        return float(prior.expected(maps, (4, 16, 16)).std(0).mean())

    alone = prior.expected(maps, (4, 16, 16))
    with consistent(prior.network, 0.9) as layers:
        assert layers == len(shared_layers(prior.network)) == 4
        together = prior.expected(maps, (4, 16, 16))
    assert not torch.allclose(alone, together, atol=1e-4)
    assert torch.equal(alone, prior.expected(maps, (4, 16, 16)))
    same = Condition(noise(1, MAPS, 16, 16).expand(4, -1, -1, -1))
    plain = prior.expected(same, (4, 16, 16))
    with consistent(prior.network, 0.9):
        # Frames that are alike have nothing to learn from each other.
        assert torch.allclose(plain, prior.expected(same, (4, 16, 16)), atol=1e-5)
    with pytest.raises(RelightError, match="no self-attention"), consistent(torch.nn.Linear(1, 1), 0.5):
        pass
    with pytest.raises(RelightError, match="expected 0 to 1"), consistent(prior.network, 2.0):
        pass


# --- video models


@pytest.mark.parametrize("name", MODELS)
def test_a_film_is_one_batch(name):
    model = MODELS[name]()
    many, side = model.squeeze
    frames = noise(FRAMES, 3, SIDE, SIDE).clamp(-1, 1)
    latents = model.encode(frames)
    assert len(latents) == 1 + (FRAMES - 1) // many and latents.shape[1] == model.channels
    assert SIDE % side == 0
    assert model.decode(latents, FRAMES).shape == frames.shape
    told = Condition(tokens=words("red ball"))
    state, t = noise(*latents.shape, seed=3), torch.full((len(latents),), 0.6)
    clean = model.clean(state, t, told)
    assert clean.shape == latents.shape
    assert not torch.allclose(clean, model.clean(state, t, Condition(tokens=words("x"))), atol=1e-5)
    other = state.clone()
    other[-1] += 1.0
    if len(latents) > 1:  # what is at one end changes the other: frames see each other
        assert not torch.equal(clean[0], model.clean(other, t, told)[0])
    with pytest.raises(ShapeError, match="sides multiples"):
        model.encode(frames[..., :-1])


def test_wan_is_sampled_as_its_pipeline_does():
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    model = wan()
    start = noise(2, 4, 8, 8, seed=4)
    steps, shift = 3, 3.0
    ours = sample(
        model, Sampling("flow", steps, 1.0, {"shift": shift}), (2, 4, 8, 8), Condition(tokens=words("a ball")),
        generator=Generator().manual_seed(5),
    )  # fmt: skip
    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=shift)
    pipeline = WanPipeline(None, None, model.vae, scheduler, model.network)  # type: ignore[arg-type]
    pipeline.set_progress_bar_config(disable=True)
    state = torch.randn(2, 4, 8, 8, generator=Generator().manual_seed(5))
    scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    for time in scheduler.timesteps:
        said = model.network(state.transpose(0, 1)[None], time[None], words("a ball"), return_dict=False)[0]
        state = scheduler.step(said[0].transpose(0, 1), time, state, return_dict=False)[0]
    assert torch.allclose(ours, state, atol=1e-5)
    assert not torch.allclose(ours, start)


@pytest.mark.parametrize("name", MODELS)
def test_light_a_video_fuses_what_the_painter_does(name):
    model, film = MODELS[name](), window()
    how = Sampling(model.sampling.name, 3, 1.0, model.sampling.options)
    relighter = LightAVideo(ShadingRelighter(size=24), model, size=SIDE, sampling=how, gamma=0.0)
    made = relighter.relit(film)
    assert len(made) == FRAMES and all(m.shape == f.shape for m, f in zip(made, film.frames, strict=True))
    outside = ~film.geometries[0].mask
    assert torch.equal(made[0][outside], film.frames[0][outside])
    assert torch.equal(made[2], relighter.relit(film)[2])
    without = LightAVideo(ShadingRelighter(size=24), model, size=SIDE, sampling=how, gamma=0.0, least=2.0)
    assert not torch.equal(made[2], without.relit(film)[2])


def test_the_share_of_the_relit_falls():
    model = wan()
    plain, square = (LightAVideo(ShadingRelighter(), model, power=p, least=0.2) for p in (1.0, 2.0))
    assert [round(plain.share(i, 5), 2) for i in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert [round(square.share(i, 5), 2) for i in range(5)] == [1.0, 0.94, 0.75, 0.44, 0.0]


def test_perfect_codes_show_the_relit_in_the_end():
    """With a video model that says what it is shown, and nothing lost in coding, early steps set the light."""

    class Still:
        channels, sampling, words = 3, Sampling("flow", 4, 1.0), staticmethod(words)
        squeeze = (1, 8)
        aim: Tensor | None = None

        def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return 1 - t, t

        def clean(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return noisy  # pure belief in what is there

        def encode(self, frames: Tensor) -> Tensor:
            return frames

        def decode(self, latents: Tensor, count: int) -> Tensor:
            return latents

    film = window()
    still: Any = Still()
    made = LightAVideo(ShadingRelighter(size=32), still, size=SIDE, gamma=0.0, strength=0.01, detail=0.0).relit(film)
    halves = [(p * m[..., None]).mean((0, 2)) for p, m in zip(made, [s.mask for s in film.geometries], strict=True)]
    assert float(halves[0][16:].sum()) > 1.15 * float(halves[0][:16].sum())


# --- trained relighters


def test_trained_relighters_are_shown_films_beside_the_noise():
    model = wan(takes=12)
    relighter = TrainedVideo(model, True, Sampling("flow", 2, 2.0, {"shift": 8.0}))
    frames = noise(FRAMES, 3, SIDE, SIDE).clamp(-1, 1)
    one = relighter.relight(frames, "lit", generator=Generator().manual_seed(1))
    assert one.shape == frames.shape
    for other in (
        relighter.relight(-frames, "lit", generator=Generator().manual_seed(1)),
        relighter.relight(frames, "lit red", generator=Generator().manual_seed(1)),
        relighter.relight(frames, "lit", background=frames.flip(0), generator=Generator().manual_seed(1)),
    ):
        assert not torch.allclose(one, other, atol=1e-5)
    made = FilmRelighter(relighter, size=SIDE).relit(window())
    assert len(made) == FRAMES
    with pytest.raises(RelightError, match="paints its own background"):
        TrainedVideo(model, False, relighter.sampling).relight(frames, "", background=frames)
    with pytest.raises(RelightError, match="expected 8, two films"):
        TrainedVideo(wan(), True, relighter.sampling)


def published_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of Wan's own layout, of diffusers'."""
    pairs = {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0", "norm2": "norm3",
        "condition_embedder.time_proj": "time_projection.1",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2", "attn1": "self_attn", "attn2": "cross_attn",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0", ".to_out.0.": ".o.", ".to_q.": ".q.",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2", ".to_k.": ".k.", ".to_v.": ".v.",
        "proj_out": "head.head", "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2",
    }  # fmt: skip
    out = {}
    for name, value in weights.items():
        new = "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")
        for ours, theirs in pairs.items():
            new = new.replace(ours, theirs)
        out[new] = value
    return out


def text_parts(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    known = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "red": 2, "lit": 3}, unk_token="<unk>"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=known, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder / "tokenizer"
    )
    torch.manual_seed(3)
    config = UMT5Config(vocab_size=8, d_model=tiny.TOKEN, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")


def test_unilumos_is_loaded_over_wan_from_published_names(tmp_path, monkeypatch):
    base, own = wan(), wan(takes=12)
    base.network.save_pretrained(tmp_path / "wan" / "transformer")
    base.vae.save_pretrained(tmp_path / "wan" / "vae")
    text_parts(tmp_path / "wan")
    place = tmp_path / "unilumos.safetensors"
    save_file({k: v.contiguous() for k, v in published_names(own.network.state_dict()).items()}, place)
    loaded = load("unilumos", str(place), base=str(tmp_path / "wan"))
    assert isinstance(loaded, TrainedVideo) and isinstance(loaded.denoiser.words, Words)
    for name, value in own.network.state_dict().items():
        assert torch.equal(loaded.denoiser.network.state_dict()[name], value), name
    said = loaded.denoiser.words("red lit")
    assert said.shape[1:] == (512, tiny.TOKEN) and bool((said[0, 2:] == 0).all()) and bool((said[0, :2] != 0).any())
    save_file({"blocks.0.odd": torch.ones(1)}, place)
    with pytest.raises(DataError, match="lacks"):
        load("unilumos", str(place), base=str(tmp_path / "wan"))


def test_animatediff_is_loaded_over_stable_diffusion(tmp_path):
    from diffusers import MotionAdapter

    tiny.stable_diffusion(tmp_path / "sd")
    torch.manual_seed(8)
    MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=2
    ).save_pretrained(tmp_path / "adapter")
    model = load("animatediff", str(tmp_path / "adapter"), base=str(tmp_path / "sd")).denoiser
    assert model.words("red ball").shape[0] == 1
    latents = model.encode(noise(3, 3, SIDE, SIDE).clamp(-1, 1))
    assert model.clean(latents, torch.full((3,), 0.5), Condition(tokens=model.words("red"))).shape == latents.shape


def test_published_relighters_paint_films_with_shared_attention(tmp_path, monkeypatch):
    from relight.diffusion.public import relighters
    from relight.diffusion.public.diffusers_model import widen

    base = tiny.stable_diffusion(tmp_path / "sd")
    network = base.unet
    widen(network, 8)
    tiny.stir(network)
    offsets = {
        k: 0.05 * torch.randn(v.shape, generator=Generator().manual_seed(2)) for k, v in network.state_dict().items()
    }
    (tmp_path / "ic").mkdir()
    save_file(offsets, tmp_path / "ic" / "iclight_sd15_fc.safetensors")
    monkeypatch.setitem(relighters.SIZES, "ic-light-fc", 32)
    monkeypatch.setattr(relighters, "CHANGE", 16)
    painter = relighters.create("ic-light-fc", str(tmp_path / "ic"), base=str(tmp_path / "sd"))
    monkeypatch.setattr(painter.model, "sampling", Sampling("ddim", 2, 1.0))
    assert isinstance(painter, Painter) and (painter.size, painter.change) == (32, 16)
    film = window(3)
    with consistent(painter.network, 0.5) as layers:
        assert layers == 2  # the twin has attention in its last upper block alone
    alone = FusedRelighter(painter, attention=0.0, reach=0).relit(film)
    together = FusedRelighter(painter, attention=0.9, reach=0).relit(film)
    assert not torch.equal(alone[1], together[1])
    assert torch.equal(alone[0][~film.mask], film.frames[0][~film.mask])
    one = painter.relit(film.frames[0], film.geometries[0], film.lights[0])
    assert one.shape == film.frames[0].shape and not torch.equal(one, film.frames[0])


def test_names_that_are_unknown():
    with pytest.raises(RelighterError, match="did you mean 'wan'"):
        create_video_relighter("shading", keeper="wann")
    with pytest.raises(RelighterError, match="by itself"):
        create_video_relighter("unilumos", keeper="wan")
    with pytest.raises(DataError, match="hf download"):
        create_video_relighter("shading", keeper="cogvideox", keeper_weights="/nowhere")


def test_a_prior_fuses_while_it_samples():
    torch.manual_seed(0)
    prior = Prior(Network(Config("relight", 3, MAPS, widths=(16, 16), detail=4, token=16)))
    film = window()
    seen: list[int] = []

    def between(step: int, clean: Tensor) -> Tensor:
        seen.append(step)
        assert clean.shape == (2, 16, 16, 3)
        return torch.full_like(clean, 0.2)

    from relight.diffusion.pictures.relighters import Shown

    shown = [Shown.of(film.frames[i], film.geometries[i], film.lights[i], 16) for i in range(2)]
    made = PriorRelighter(prior, steps=3, ensemble=2).painted(shown, between=between)
    assert seen == [0, 1, 2]
    assert float((made - 0.2).abs().max()) < 0.02
