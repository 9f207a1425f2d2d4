"""The adapter against pipelines of diffusers: the same weights, noise and steps give the same latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_diffusion as tiny
import torch
from torch import Tensor, nn

from relight.diffusion.protocol import Condition, Denoiser
from relight.diffusion.public.diffusers_model import DiffusersModel, Schedule, guidance_embedding, widen
from relight.diffusion.public.lora import load_lora
from relight.diffusion.public.negative import negative_attention
from relight.diffusion.samplers import Sampling, sample
from relight.diffusion.tileable import seam, tileable, wrapped
from relight.errors import DataError, RelightError, ShapeError


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("sd"))


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(1, 16, tiny.TOKEN, generator=torch.Generator().manual_seed(seed))


def model_of(pipeline: Any, **options: Any) -> DiffusersModel:
    nothing, schedule = tokens(7), Schedule.of(pipeline.scheduler)
    return DiffusersModel(pipeline.unet, schedule, vae=pipeline.vae, nothing=nothing, **options)


def test_it_is_a_denoiser(pipeline):
    model = model_of(pipeline)
    assert isinstance(model, Denoiser) and model.channels == 4 and model.factor == 2
    a, s = model.rates(torch.tensor([0.0, 0.001, 0.5, 0.5005, 1.0]))
    alphas = pipeline.scheduler.alphas_cumprod
    torch.testing.assert_close(a[[0, 1, 2, 4]], torch.cat([torch.ones(1), alphas[[0, 499, 999]].sqrt()]))
    torch.testing.assert_close(a**2 + s**2, torch.ones(5))
    assert a[2] > a[3] > alphas[500].sqrt()
    assert not any(p.requires_grad for p in pipeline.unet.parameters())
    noisy = torch.randn(2, 4, 8, 8, requires_grad=True)
    model.clean(noisy, torch.tensor([0.3, 0.9]), Condition(tokens=tokens())).sum().backward()
    assert noisy.grad is not None and noisy.grad.abs().sum() > 0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["ddim", "dpm", "unipc", "lcm"])
def test_the_same_as_a_pipeline(pipeline, name, prediction):
    import diffusers

    kind = {
        "ddim": diffusers.DDIMScheduler, "dpm": diffusers.DPMSolverMultistepScheduler,
        "unipc": diffusers.UniPCMultistepScheduler, "lcm": diffusers.LCMScheduler,
    }[name]  # fmt: skip
    base = tiny.scheduler(prediction)
    spacing = {} if name == "ddim" else {"timestep_spacing": "leading" if name == "lcm" else "linspace"}
    theirs = kind.from_config(base.config, **spacing)
    pipe: Any = diffusers.StableDiffusionPipeline(
        **{**pipeline.components, "scheduler": theirs}, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt_embeds=tokens(), negative_prompt_embeds=tokens(7), guidance_scale=3.0, num_inference_steps=4,
        height=16, width=16, generator=torch.Generator().manual_seed(0), output_type="latent",
    ).images  # fmt: skip
    model = DiffusersModel(pipeline.unet, Schedule.of(base), vae=pipeline.vae, nothing=tokens(7))
    how = Sampling(name, 4, guidance=3.0)
    found = sample(model, how, (1, 4, 8, 8), Condition(tokens=tokens()), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected, atol=2e-3 * float(expected.abs().max()), rtol=0)


def test_a_controlnet_is_told_the_maps(pipeline):
    import diffusers

    control = tiny.controlnet(5)
    pipe: Any = diffusers.StableDiffusionControlNetPipeline(
        **pipeline.components, controlnet=control, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    maps = torch.rand(1, 5, 16, 16)
    expected = pipe(
        image=maps, prompt_embeds=tokens(), negative_prompt_embeds=tokens(7), guidance_scale=3.0,
        num_inference_steps=3, height=16, width=16, controlnet_conditioning_scale=0.8,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    ).images  # fmt: skip
    model = model_of(pipeline, controlnet=control, control_scale=0.8)
    how, told = Sampling("ddim", 3, guidance=3.0), Condition(maps=maps, tokens=tokens())
    generator = torch.Generator().manual_seed(0)
    found = sample(model, how, (1, 4, 8, 8), told, without=Condition(maps=maps), generator=generator)
    torch.testing.assert_close(found, expected, atol=2e-3 * float(expected.abs().max()), rtol=0)
    t, noisy = torch.tensor([0.5]), torch.randn(1, 4, 8, 8)
    assert not torch.allclose(model.clean(noisy, t, told), model.clean(noisy, t, Condition(tokens=tokens())))
    with pytest.raises(ShapeError, match=r"\(1, 5, 16, 16\)"):
        model.clean(noisy, t, Condition(maps=maps[..., :8], tokens=tokens()))


def test_a_flow_is_asked_in_its_own_time():
    from diffusers import FlowMatchEulerDiscreteScheduler

    network, theirs = tiny.unet(), FlowMatchEulerDiscreteScheduler(shift=2.0)
    model = DiffusersModel(network, Schedule.of(theirs), nothing=tokens())
    generator = torch.Generator().manual_seed(0)
    found = sample(model, Sampling("flow", 4, options={"shift": 2.0}), (1, 4, 8, 8), generator=generator)
    theirs.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    state: Any = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    times: Any = theirs.timesteps
    with torch.no_grad():
        for t in times:
            (state,) = theirs.step(network(state, t, tokens()).sample, t, state, return_dict=False)
    torch.testing.assert_close(found, state, atol=1e-4, rtol=0)


def test_a_flow_map_is_told_its_step():
    from diffusers import UNet2DModel

    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, class_embed_type="timestep",
    )  # fmt: skip
    tiny.stir(network)
    model = DiffusersModel(network, Schedule("flow_prediction"))
    noisy, t = torch.randn(1, 1, 8, 8), torch.ones(1)
    assert model.steps_known and model.decode(noisy) is noisy
    near, far = (model.clean_until(noisy, t, until) for until in (t, 0 * t))
    assert not torch.allclose(near, far) and torch.equal(near, model.clean(noisy, t))
    picture = sample(model, Sampling("flowmap", 1), (1, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(picture, model.clean_until(noise, t, 0 * t))
    plain = DiffusersModel(tiny.unet(), Schedule("flow_prediction"), nothing=tokens())
    with pytest.raises(RelightError, match="how far a step goes"):
        sample(plain, Sampling("flowmap", 1), (1, 4, 8, 8))


def test_maps_lie_beside_the_picture():
    """Widened, a network says what it said; trained on, it may say more; before or after."""
    network = tiny.unet()
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([0.4])
    plain = DiffusersModel(network, Schedule.of(tiny.scheduler()), nothing=tokens())
    before = plain.clean(noisy, t)
    widen(network, 12)
    model = DiffusersModel(network, Schedule.of(tiny.scheduler()), nothing=tokens())
    maps = torch.randn(1, 8, 8, 8)
    assert model.map_channels == 8
    torch.testing.assert_close(model.clean(noisy, t, Condition(maps=maps)), before)
    with torch.no_grad():
        network.conv_in.weight[:, 4:] = torch.randn_like(network.conv_in.weight[:, 4:])
    after = model.clean(noisy, t, Condition(maps=maps))
    assert not torch.allclose(after, before)
    torch.testing.assert_close(model.clean(noisy, t), before)  # told nothing: zeros
    with torch.no_grad():
        network.conv_in.weight.copy_(network.conv_in.weight.roll(8, 1))
    first = DiffusersModel(network, Schedule.of(tiny.scheduler()), nothing=tokens(), maps_first=True)
    torch.testing.assert_close(first.clean(noisy, t, Condition(maps=maps)), after)
    with pytest.raises(ShapeError, match=r"\(1, 8, 8, 8\)"):
        model.clean(noisy, t, Condition(maps=maps[:, :4]))
    with pytest.raises(RelightError, match="cannot be made 8"):
        widen(network, 8)


def test_pictures_and_latents(pipeline):
    model = model_of(pipeline)
    picture = torch.rand(2, 6, 16, 24) * 2 - 1
    latents = model.encode(picture)
    assert latents.shape == (2, 8, 8, 12)
    scale = pipeline.vae.config.scaling_factor
    torch.testing.assert_close(latents[:, 4:], pipeline.vae.encode(picture[:, 3:]).latent_dist.mode() * scale)
    torch.testing.assert_close(model.decode(latents)[:, :3], pipeline.vae.decode(latents[:, :4] / scale).sample)
    with pytest.raises(ShapeError, match="multiples of 2"):
        model.encode(picture[..., :15])


def test_what_it_cannot_be_is_said():
    from diffusers import EDMEulerScheduler, UNet2DConditionModel

    with pytest.raises(RelightError, match="neither its alphas"):
        Schedule.of(EDMEulerScheduler())
    with pytest.raises(RelightError, match="prediction 'noise' is unknown"):
        Schedule("noise")
    with pytest.raises(RelightError, match="learned variances"):
        DiffusersModel(tiny.unet(4, 8), Schedule("sample"))
    with pytest.raises(RelightError, match="no tokens"):
        DiffusersModel(tiny.unet(), Schedule("flow_prediction")).clean(torch.zeros(1, 4, 8, 8), torch.ones(1))
    large = UNet2DConditionModel(
        block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        cross_attention_dim=8, addition_embed_type="text_time", projection_class_embeddings_input_dim=8,
        addition_time_embed_dim=8, attention_head_dim=2,
    )  # fmt: skip
    with pytest.raises(RelightError, match="SDXL"):
        DiffusersModel(large, Schedule("flow_prediction"))


def test_guidance_is_told_as_diffusers_tells_it(pipeline):
    theirs = pipeline.get_guidance_scale_embedding(torch.tensor([6.5]), embedding_dim=33)
    torch.testing.assert_close(guidance_embedding(7.5, 33), theirs, atol=1e-3, rtol=0)
    network = tiny.unet(time_cond_proj_dim=16)
    tiny.stir(network)
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([0.4])
    weak, strong = (
        DiffusersModel(network, Schedule.of(tiny.scheduler()), nothing=tokens(), told_guidance=g).clean(noisy, t)
        for g in (1.0, 8.0)
    )
    assert not torch.allclose(weak, strong)


# --- negative attention


def test_negative_attention_is_the_difference_before_projection():
    """Against attention written out."""
    network, noisy, wanted, unwanted = tiny.unet(), torch.randn(1, 4, 8, 8), tokens(1), tokens(2)
    tiny.stir(network)
    layer: Any = network.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    hidden = torch.randn(2, 16, 8)

    def attention(told: Tensor) -> Tensor:
        q, k, v = (
            f(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for f, x in ((layer.to_q, hidden), (layer.to_k, told), (layer.to_v, told))
        )
        return (torch.softmax(q @ k.mT * layer.scale, -1) @ v).transpose(1, 2).flatten(2)

    told = wanted.expand(2, -1, -1)
    expected = layer.to_out[0](attention(told) - 0.3 * attention(unwanted.expand(2, -1, -1)))
    before, processors = network(noisy, 300, wanted).sample, network.attn_processors
    with negative_attention(network, unwanted, 0.3):
        torch.testing.assert_close(layer(hidden, told), expected)
        assert not torch.allclose(network(noisy, 300, wanted).sample, before)
    assert network.attn_processors == processors
    torch.testing.assert_close(network(noisy, 300, wanted).sample, before)
    with negative_attention(network, unwanted, 0.0):
        torch.testing.assert_close(network(noisy, 300, wanted).sample, before)


# --- LoRA


@pytest.fixture
def lora(tmp_path) -> Path:
    """Of rank 2, on the values that cross-attention takes."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
    save_file(
        {
            f"{name}.lora_A.weight": torch.randn(2, tiny.TOKEN, generator=generator),
            f"{name}.lora_B.weight": torch.randn(8, 2, generator=generator),
        },
        tmp_path / "few_steps.safetensors",
    )
    return tmp_path / "few_steps.safetensors"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_lora_adds_its_product(lora):
    from safetensors.torch import load_file, save_file

    network = tiny.unet()
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
    weights = load_file(lora)
    added = weights[f"unet.{layer}.lora_B.weight"] @ weights[f"unet.{layer}.lora_A.weight"]
    expected = tiny.unet()
    with torch.no_grad():
        expected.get_submodule(layer).weight += 0.5 * added
    noisy = torch.randn(1, 4, 8, 8)
    # Kohya's names and its scale, alpha / rank.
    kohya = f"lora_unet_{layer.replace('.', '_')}"
    a, b = (weights[f"unet.{layer}.lora_{x}.weight"] for x in "AB")
    names = {f"{kohya}.lora_down.weight": a, f"{kohya}.lora_up.weight": b, f"{kohya}.alpha": torch.tensor(1.0)}
    save_file(names, lora.with_name("kohya.safetensors"))
    other = tiny.unet()
    load_lora(other, lora.with_name("kohya.safetensors"))
    torch.testing.assert_close(other(noisy, 300, tokens()).sample, expected(noisy, 300, tokens()).sample)

    load_lora(network, lora, scale=0.5)
    torch.testing.assert_close(network(noisy, 300, tokens()).sample, expected(noisy, 300, tokens()).sample)
    network.delete_adapters("relight")
    torch.testing.assert_close(network(noisy, 300, tokens()).sample, tiny.unet()(noisy, 300, tokens()).sample)


def test_a_lora_for_another_network_is_refused(lora, tmp_path):
    from safetensors.torch import load_file, save_file

    network = tiny.unet()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    weights = load_file(lora)
    other = tmp_path / "other.safetensors"
    save_file({k.replace("blocks.0", "blocks.7"): v for k, v in weights.items()}, other)
    for source, words in [
        (other, "another network"),
        (tmp_path / "gone.safetensors", "no LoRA could be read"),
        ("nobody/no-such-lora", "no LoRA could be read.*download"),
    ]:
        with pytest.raises(DataError, match=words):
            load_lora(network, source)
    save_file({k: torch.randn(3, 3) for k in weights}, other)
    with pytest.raises(DataError, match="another network"):
        load_lora(network, other)
    (tmp_path / "old.bin").write_bytes(b"")
    with pytest.raises(DataError, match="safetensors alone"):
        load_lora(network, tmp_path / "old.bin")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# --- textures that meet themselves


def test_a_tileable_network_does_not_know_where_its_picture_ends():
    network, noisy = tiny.unet(), torch.randn(1, 4, 16, 16)
    with torch.no_grad(), tileable(network):
        once = network(noisy, 300, tokens()).sample
        rolled = network(noisy.roll((4, 6), (2, 3)), 300, tokens()).sample
    torch.testing.assert_close(rolled, once.roll((4, 6), (2, 3)), atol=1e-5, rtol=0)
    with torch.no_grad():
        rolled = network(noisy.roll((4, 6), (2, 3)), 300, tokens()).sample
        assert not torch.allclose(rolled, network(noisy, 300, tokens()).sample.roll((4, 6), (2, 3)), atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_rolling_features_and_padding_them_is_the_same(stride):
    """As StableMaterials does it: roll by an even number, pad by 4, convolve, cut, roll back."""
    layer, x = nn.Conv2d(3, 5, 3, stride, 1), torch.randn(1, 3, 16, 16)
    pad = 4 // stride
    padded = layer(nn.functional.pad(x.roll((6, 10), (2, 3)), (4,) * 4, mode="circular"))
    theirs = padded[..., pad:-pad, pad:-pad].roll((-6 // stride, -10 // stride), (2, 3))
    with tileable(layer):
        torch.testing.assert_close(layer(x), theirs)


def test_seams_are_seen():
    period = torch.arange(32) * (2 * torch.pi / 32)
    waves = (period.sin()[:, None] * period.cos()).expand(1, 1, 32, 32)
    assert seam(waves) < 1.6 < 5 < seam(waves[..., :24, :24])
    assert torch.equal(wrapped(waves, 3)[..., 3:-3, 3:-3], waves) and wrapped(waves, 3).shape[-1] == 38
