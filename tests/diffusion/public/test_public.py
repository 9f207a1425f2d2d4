"""Loaders of published weights, on twins with the same architecture, few channels and weights by chance."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import tiny_diffusion as tiny
import torch
from torch import Tensor

from relight.diffusion.public import MODELS, load
from relight.diffusion.public.diffusers_model import widen
from relight.diffusion.public.dilightnet import controlnet_of
from relight.diffusion.public.dilightnet import maps_of as hints_maps
from relight.diffusion.public.dreammat import MATERIALS, maps_of
from relight.diffusion.public.ic_light import gradient
from relight.diffusion.public.neural_gaffer import light_pictures
from relight.diffusion.public.stable_materials import Tiled, split
from relight.diffusion.samplers import Sampling, sample
from relight.errors import DataError, RelightError, ShapeError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion."""
    folder = tmp_path_factory.mktemp("base")
    tiny.stable_diffusion(folder)
    return folder


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(seed: int = 0, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, 16, 16, generator=seeded(seed)) * 2 - 1


def save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path)


def is_picture(found: Tensor) -> bool:
    return found.shape == (1, 3, 16, 16) and bool(found.isfinite().all()) and float(found.abs().max()) <= 1


# --- nothing there


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("source", ["nobody/nothing", "folder"])
def test_what_is_missing_is_said_and_where_to_put_it(name, source, tmp_path, base):
    source = str(tmp_path) if source == "folder" else source
    with pytest.raises(DataError) as error:
        load(name, source, base=str(base) if MODELS[name].base else None)
    said = str(error.value)
    assert name in said and source in said and "--local-dir FOLDER" in said and "\n" not in said
    assert f"hf download {MODELS[name].hub}" in said and "give FOLDER as source" in said


def test_a_missing_base_is_said(tmp_path):
    (tmp_path / "iclight_sd15_fc.safetensors").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"its base nobody/nothing .*hf download stable-diffusion-v1-5.*give FOLDER as base"
    ):
        load("ic-light-fc", str(tmp_path), base="nobody/nothing")


def test_names_are_checked():
    with pytest.raises(RelightError, match="did you mean 'ic-light-fc'"):
        load("ic-light-fx")
    with pytest.raises(RelightError, match="takes no base"):
        load("stable-materials", base="folder")


def test_pickled_weights_are_refused(base, tmp_path):
    import shutil

    for part, weights in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        folder = tmp_path / part
        shutil.copytree(base, folder)
        old = "pytorch_model.bin" if part == "text_encoder" else f"{weights}.bin"
        (folder / part / f"{weights}.safetensors").rename(folder / part / old)
        with pytest.raises(DataError, match="safetensors"):
            load("ic-light-fc", str(tmp_path), base=str(folder))
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"not \.safetensors"):
        load("ic-light-fc", str(tmp_path / "model.bin"), base=str(base))


def test_the_page_has_them_all():
    page = (Path(__file__).parents[3] / "docs" / "public_weights.md").read_text("utf-8")
    for name, published in MODELS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert published.hub in row or "the same" in row


# --- IC-Light


@pytest.mark.parametrize("name", ["ic-light-fc", "ic-light-fbc"])
def test_ic_light_adds_offsets_after_widening(name, base, tmp_path):
    wide = 8 if name == "ic-light-fc" else 12
    network = tiny.unet()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    widen(network, wide)
    generator = seeded()
    offsets = {k: 0.1 * torch.randn(v.shape, generator=generator) for k, v in network.state_dict().items()}
    save(offsets, tmp_path / MODELS[name].file)
    model = load(name, str(tmp_path), base=str(base))
    found = model.denoiser.network.state_dict()
    torch.testing.assert_close(
        found["conv_in.weight"][:, :4], before["conv_in.weight"] + offsets["conv_in.weight"][:, :4]
    )
    torch.testing.assert_close(found["conv_in.weight"][:, 4:], offsets["conv_in.weight"][:, 4:])
    torch.testing.assert_close(found["conv_out.bias"], before["conv_out.bias"] + offsets["conv_out.bias"])

    front, back = picture(1), picture(2) if wide == 12 else None
    told = model.condition(front, "a red ball", back)
    shown = [model.denoiser.encode(p) for p in (front, back) if p is not None]
    torch.testing.assert_close(told.maps, torch.cat(shown, 1))
    # As the authors run it: the pipeline of diffusers, round whose network the shown latents are appended.
    import diffusers

    pipe: Any = diffusers.StableDiffusionPipeline.from_pretrained(base, local_files_only=True, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    network.load_state_dict(found)
    plain = network.forward
    network.forward = lambda x, *a, **k: plain(torch.cat([x, told.maps.expand(len(x), -1, -1, -1)], 1), *a, **k)
    network.register_to_config(in_channels=4)
    pipe.unet = network
    expected = pipe(
        "a red ball", negative_prompt="bad", guidance_scale=model.sampling.guidance, num_inference_steps=3, height=16,
        width=16, generator=seeded(), output_type="latent",
    ).images  # fmt: skip
    how = Sampling("ddim", 3, model.sampling.guidance)
    lit = model.relight(front, "a red ball", background=back, unwanted="bad", sampling=how, generator=seeded())
    torch.testing.assert_close(lit, model.denoiser.decode(expected).clamp(-1, 1), atol=5e-3, rtol=0)


def test_ic_light_lights_from_a_side(base, tmp_path):
    for name, wide in (("ic-light-fc", 8), ("ic-light-fbc", 12)):
        network = tiny.unet()
        widen(network, wide)
        tiny.stir(network, 0.02)
        before = {**tiny.unet().state_dict(), "conv_in.weight": torch.zeros(8, wide, 3, 3)}
        before["conv_in.weight"][:, :4] = tiny.unet().conv_in.weight
        save({k: v - before[k] for k, v in network.state_dict().items()}, tmp_path / MODELS[name].file)
        model = load(name, str(tmp_path), base=str(base))
        assert (
            model.sampling.options["algorithm_type"] == "sde-dpmsolver++"
            and model.sampling.options["use_karras_sigmas"]
        )
        few = Sampling("dpm", 4, 2.0, model.sampling.options)
        left, again, right = (
            model.relight(picture(), "a ball", light=side, sampling=few, generator=seeded())
            for side in ("left", "left", "right")
        )
        assert is_picture(left) and torch.equal(left, again) and not torch.equal(left, right)
        larger = model.relight(picture(), "a ball", light="top", sampling=few, refined=1.5, generator=seeded())
        assert larger.shape == (1, 3, 24, 24)
    with pytest.raises(RelightError, match="needs a background"):
        model.relight(picture(), "a ball")
    ramp = gradient("right", 4, 5, 255, 0)
    assert ramp[0, 0, 0].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert gradient("top", 4, 5, 224, 32)[0, 0, 0, 0] > gradient("top", 4, 5, 224, 32)[0, 0, 3, 0]
    with pytest.raises(RelightError, match="light from 'above'"):
        model.relight(picture(), "a ball", light="above")


def test_offsets_for_another_base_are_refused(base, tmp_path):
    save(tiny.unet().state_dict(), tmp_path / "iclight_sd15_fc.safetensors")
    with pytest.raises(DataError, match=r"1 weights differ, as conv_in.weight"):
        load("ic-light-fc", str(tmp_path), base=str(base))
    (tmp_path / "iclight_sd15_fc.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"can't be read .*safetensors"):
        load("ic-light-fc", str(tmp_path), base=str(base))


# --- DreamMat


def test_dreammat_is_told_geometry_and_light(base, tmp_path):
    tiny.controlnet(22).save_pretrained(tmp_path)
    model = load("dreammat", str(tmp_path), base=str(base))
    depth = torch.zeros(1, 1, 16, 16)
    depth[..., 4:12, 4:12] = torch.linspace(1, 2, 8)
    normal = torch.tensor([0.6, 0.0, -0.8]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    renders = torch.arange(18.0).view(1, 6, 3, 1, 1).expand(1, 6, 3, 16, 16) / 18
    maps = maps_of(depth, normal, renders)
    assert MATERIALS[:2] == ((0.0, 0.0), (0.0, 0.5)) and MATERIALS[3] == (1.0, 0.0)
    inside, outside = maps[0, :, 8, 4], maps[0, :, 0, 0]
    assert inside[:4].tolist() == pytest.approx([1.0, 0.2, 0.5, 0.9], abs=1e-5)
    assert maps[0, 0, 8, 11] == pytest.approx(0.3) and outside[:4].tolist() == [0, 0.5, 0.5, 1]
    assert inside[4:].tolist() == pytest.approx([k / 18 for k in range(18)])
    made = model.paint(maps, "rusty metal", "bad", generator=seeded())
    assert is_picture(made)
    assert not torch.equal(made, model.paint(maps.flip(1), "rusty metal", "bad", generator=seeded()))
    with pytest.raises(ShapeError, match=r"renders.*6, 3, 16, 16"):
        maps_of(depth, normal, renders[:, :4])
    tiny.controlnet(3).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="takes 3 channels, not 22"):
        load("dreammat", str(tmp_path), base=str(base))


# --- Marigold


def test_marigold_is_shown_the_picture_before_the_noise(tmp_path):
    import diffusers

    words = tiny.tokenizer(tmp_path / "words")
    properties = {
        "target_names": ["albedo", "material"],
        "albedo": {"prediction_space": "srgb"},
        "material": {"prediction_space": "stack", "sub_target_names": ["roughness", "metallicity", None]},
    }
    twin = diffusers.MarigoldIntrinsicsPipeline(
        unet=tiny.unet(12, 8), vae=tiny.vae(), scheduler=tiny.scheduler("v_prediction"), tokenizer=words,
        text_encoder=tiny.text_encoder(len(words)), prediction_type="intrinsics", target_properties=properties,
        default_denoising_steps=3, default_processing_resolution=16,
    )  # fmt: skip
    twin.save_pretrained(tmp_path / "twin")
    model = load("marigold-iid-appearance", str(tmp_path / "twin"))
    layers = model.decompose(picture(), generator=seeded())
    assert {k: tuple(v.shape) for k, v in layers.items()} == {
        "albedo": (1, 3, 16, 16), "roughness": (1, 1, 16, 16), "metallicity": (1, 1, 16, 16)
    }  # fmt: skip
    # The denoiser, sampled as the model says, is the pipeline.
    latents = sample(model.denoiser, model.sampling, (1, 8, 8, 8), model.condition(picture()), generator=seeded())
    expected = (model.denoiser.decode(latents).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(layers["albedo"], expected[:, :3], atol=2e-3, rtol=0)
    torch.testing.assert_close(layers["roughness"], expected[:, 3:4], atol=2e-3, rtol=0)
    twin.unet = tiny.unet(16, 12)
    twin.save_pretrained(tmp_path / "twin")
    with pytest.raises(DataError, match="names 2 pictures and makes 12 latents"):
        load("marigold-iid-appearance", str(tmp_path / "twin"))


# --- StableMaterials


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("materials")
    words = tiny.tokenizer(folder / "tokenizer")
    words.save_pretrained(folder / "tokenizer")
    for name, part in {
        "unet": tiny.unet(6, 6), "unet_lcm": tiny.unet(6, 6, time_cond_proj_dim=16), "vae": tiny.vae(9, 6),
        "scheduler": tiny.scheduler(), "text_encoder": tiny.text_encoder(len(words), projected=True),
        "vision_encoder": tiny.vision_encoder(),
    }.items():  # fmt: skip
        part.save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize("name", ["stable-materials", "stable-materials-lcm"])
def test_stable_materials_makes_maps_that_tile(name, materials):
    model = load(name, str(materials))
    fast = name.endswith("lcm")
    assert (model.sampling.name, model.sampling.steps, model.sampling.guidance) == (
        ("lcm", 4, 1.0) if fast else ("ddim", 50, 10.0)
    )
    assert model.denoiser.told_guidance == (10.0 if fast else None)
    black = model.condition(torch.full((1, 3, 40, 30), -1.0)).tokens
    torch.testing.assert_close(model.denoiser.nothing, black)
    words, seen = model.condition("rusty metal").tokens, model.condition(picture()).tokens
    assert words.shape == seen.shape == (1, 1, tiny.TOKEN)
    few = Sampling(model.sampling.name, 4, model.sampling.guidance)
    tiled = model.make("rusty metal", 64, sampling=few, generator=seeded())
    plain = model.make("rusty metal", 64, tiled=False, sampling=few, generator=seeded())
    assert {k: v.shape[1] for k, v in tiled.items()} == {
        "base_color": 3, "normal": 3, "height": 1, "roughness": 1, "metallic": 1
    }  # fmt: skip
    assert all(v.shape[2:] == (64, 64) and v.min() >= 0 and v.max() <= 1 for v in tiled.values())
    assert not torch.equal(tiled["roughness"], plain["roughness"])
    other = model.make(picture(), 64, sampling=few, generator=seeded())
    assert not torch.equal(other["roughness"], tiled["roughness"])


def test_stable_materials_knows_no_edges_once_places_are_settled(materials, monkeypatch):
    model = load("stable-materials", str(materials))
    told, noisy = model.condition("rusty metal"), torch.randn(1, 6, 16, 16, generator=seeded())
    for t, tiles in ((0.9, False), (0.77, True), (0.2, True)):
        time = torch.tensor([t])
        once = Tiled(model.denoiser).clean(noisy, time, told)
        rolled = Tiled(model.denoiser).clean(noisy.roll((6, 4), (2, 3)), time, told).roll((-6, -4), (2, 3))
        assert torch.allclose(once, rolled, atol=1e-4 * float(once.abs().max())) == tiles
    # Decoded with a rim of what is opposite, which is cut off again.
    decoded: list[Tensor] = []

    def decode(latents: Tensor) -> Tensor:
        decoded.append(latents)
        return latents[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 9, -1, -1)

    monkeypatch.setattr(model.denoiser, "decode", decode)
    height = model.make("a ball", 64, sampling=Sampling("ddim", 2), generator=seeded())["height"]
    (latents,) = decoded
    assert latents.shape[-2:] == (40, 40) and torch.equal(latents[..., :4, :], latents[..., 32:36, :])
    expected = (latents[:, :1, 4:-4, 4:-4] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(height[..., ::2, ::2], expected)


def test_normals_are_made_whole():
    maps = torch.zeros(1, 9, 1, 2)
    maps[0, 3:5, 0] = torch.tensor([[0.8, 1.0], [0.5, 1.0]])
    normal = split(maps)["normal"] * 2 - 1
    assert normal[0, :, 0, 0].tolist() == pytest.approx([0.6, 0, 0.8], abs=1e-6)
    assert normal[0, :, 0, 1].tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0], abs=1e-6)


def test_another_version_of_stable_materials_is_refused(materials, tmp_path):
    import shutil

    shutil.copytree(materials, tmp_path / "other")
    tiny.vae(3, 4).save_pretrained(tmp_path / "other" / "vae")
    with pytest.raises(DataError, match="another version"):
        load("stable-materials", str(tmp_path / "other"))


# --- DiLightNet


def test_dilightnet_multiplies_hints_by_what_it_sees(base, tmp_path):
    settings = dict(tiny.controlnet(4).config)
    settings |= {"conditioning_channels": 4, "shading_hint_channels": 12}
    twin = controlnet_of(settings)
    tiny.stir(twin)
    (tmp_path / "config.json").write_text(
        json.dumps({**settings, "_class_name": "NeuralTextureControlNetModel"}, default=list)
    )
    save(twin.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    prefix = "controlnet_cond_embedding."
    names = {k.removeprefix(prefix) for k in twin.state_dict() if k.startswith(prefix)}
    for published in (
        "conv_in.weight", "conv_out.bias", "blocks.1.weight", "neural_texture_encoder.model.0.weight",
        "neural_texture_encoder.model.3.weight", "neural_texture_encoder.model.8.conv.1.weight",
        "neural_texture_encoder.model.11.conv.3.bias", "neural_texture_encoder.model.12.weight",
        "neural_texture_encoder.model.16.bias", "neural_texture_encoder.model.18.weight",
    ):  # fmt: skip
        assert published in names
    assert len(names) == 52
    model = load("dilightnet", str(tmp_path), base=str(base))
    mask = torch.ones(1, 1, 16, 16)
    mask[..., :8] = 0.5
    hints = torch.rand(1, 12, 16, 16, generator=seeded())
    maps = hints_maps(picture(), mask, hints)
    torch.testing.assert_close(maps[:, :1], mask)
    torch.testing.assert_close(maps[:, 1:4], (picture() + 1) / 2 * mask)
    torch.testing.assert_close(maps[:, 4:], hints * mask)
    embedding = model.denoiser.controlnet.controlnet_cond_embedding
    dark = [embedding(torch.cat([maps[:, :4] * k, 0 * maps[:, 4:]], 1)) for k in (1, 0)]
    assert torch.equal(*dark)  # without light it is as dark, whatever the picture
    assert not torch.allclose(embedding(maps), embedding(maps.roll(1, 1)))
    lit = model.relight(picture(), mask, hints, "a red ball", Sampling("unipc", 3, 3.0), generator=seeded())
    assert is_picture(lit) and (model.sampling.name, model.sampling.guidance) == ("unipc", 3.0)
    half = load("dilightnet", str(tmp_path), base=str(base), dtype=torch.bfloat16)
    again = half.relight(picture(), mask, hints, "a red ball", Sampling("unipc", 3, 3.0), generator=seeded())
    assert again.dtype == torch.float32 and float((again - lit).abs().mean()) < 0.1 * float(lit.abs().mean())
    assert not torch.equal(
        lit, model.relight(picture(), mask, 0 * hints, "a red ball", Sampling("unipc", 3, 3.0), generator=seeded())
    )
    with pytest.raises(ShapeError, match="radiance hints"):
        hints_maps(picture(), mask, hints[:, :9])


# --- Neural Gaffer


def test_neural_gaffer_is_shown_object_and_light(tmp_path):
    zero = tmp_path / "zero123"
    for name, part in {
        "unet": tiny.unet(8, 4), "vae": tiny.vae(), "scheduler": tiny.scheduler(),
        "image_encoder": tiny.vision_encoder(),
    }.items():  # fmt: skip
        part.save_pretrained(zero / name)
    network = tiny.unet(8, 4)
    widen(network, 16)
    tiny.stir(network)
    save({f"module.{k}": v for k, v in network.state_dict().items()}, tmp_path / "model.safetensors")
    model = load("neural-gaffer", str(tmp_path / "model.safetensors"), base=str(zero))
    torch.testing.assert_close(model.denoiser.network.conv_in.weight, network.conv_in.weight)
    log, clipped = light_pictures(lambda d: 2 * d.clamp(min=0), 16)
    told = model.condition(picture(), log, clipped)
    vae = model.denoiser.vae
    for k, shown in enumerate((picture(), log, clipped)):
        torch.testing.assert_close(told.maps[:, 4 * k : 4 * k + 4], vae.encode(shown).latent_dist.mode())
    lit = model.relight(picture(), log, clipped, Sampling("ddim", 3, 3.0), generator=seeded())
    assert is_picture(lit)
    # Guidance leads away from a model that is told zeros.
    assert not torch.any(model.denoiser.nothing)


@pytest.mark.parametrize(
    ("direction", "row", "column"),
    [((0, 0, 1), 0.5, 0.25), ((1, 0, 0), 0.5, 0.5), ((0, 0, -1), 0.5, 0.75), ((0.0, -0.9, 0.4), 0.13, 0.25)],
)
def test_light_is_drawn_in_the_camera_s_frame(direction, row, column):
    towards = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float32), dim=0)
    log, clipped = light_pictures(lambda d: (50 * (d @ towards)).exp()[..., None].expand(*d.shape), 64)
    place = int(log[0, 0].argmax())
    assert (place // 64 + 0.5) / 64 == pytest.approx(row, abs=0.02)
    assert (place % 64 + 0.5) / 64 == pytest.approx(column, abs=0.02)
    assert log.max() == 1 and log.min() >= -1 and clipped.max() == 1
