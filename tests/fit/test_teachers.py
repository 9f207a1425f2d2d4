"""Teachers: shapes, that weights are real, and what is said where something is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from relight.errors import RelightError
from relight.fit.teachers import FeatureExtractor, MaskExtractor, TextExtractor, create
from relight.images import read_image


def made(name: str, source: str | None = None) -> FeatureExtractor:
    try:
        return create(name, source)
    except RelightError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def halves(height: int = 96, width: int = 128) -> torch.Tensor:
    """Fine stripes on the left, smooth colour on the right."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    stripes = ((x + y) // 3 % 2).float()[..., None].expand(-1, -1, 3)
    smooth = torch.stack([x / width, y / height, torch.full_like(x, 0.4, dtype=torch.float32)], -1)
    return torch.where((x < width // 2)[..., None], stripes, smooth)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "xfeat"])
def test_teachers_with_weights_tell_textures_apart(name):
    teacher = made(name)
    assert isinstance(teacher, FeatureExtractor)
    values = teacher(halves())
    assert values.shape == (12, 16, sum(teacher.levels)) and values.isfinite().all()
    torch.testing.assert_close(values[3, 3].square().sum(), torch.tensor(float(len(teacher.levels))))
    # Within a half things are liker than across.
    flat = normalize(values[2:10] - values.mean((0, 1)), dim=-1)
    left, right = flat[:, 1:6].flatten(0, 1), flat[:, 10:15].flatten(0, 1)
    assert (left @ left.T).mean() > (left @ right.T).mean() + 0.3
    torch.testing.assert_close(teacher(halves()), values)


def test_a_classifier_knows_its_words():
    teacher = made("efficientnet-lite0-classes")
    assert isinstance(teacher, FeatureExtractor) and isinstance(teacher, TextExtractor)
    photo = Path(os.environ.get("RELIGHT_DATA", "")) / "multiview" / "ngp_fox" / "images" / "0034.jpg"
    if not photo.is_file():
        pytest.skip("RELIGHT_DATA has no fox")
    rgb = read_image(photo).rgb.permute(2, 0, 1)[None]
    values = teacher(interpolate(rgb, scale_factor=512 / max(rgb.shape[2:]), mode="area")[0].permute(1, 2, 0))
    assert values.shape == (16, 9, 1280) and values.isfinite().all()
    words = ["red fox", "a red fox", "teapot", "object"]
    try:
        fox, same, teapot, anything = normalize(teacher.text(words), dim=1)
    except RelightError as error:
        pytest.skip(str(error))
    assert torch.equal(fox, same) and not anything.any()
    found, other = values @ fox, values @ teapot
    assert found.max() > 0.2 and found.max() > 3 * other.max()
    # In its face, which is in the middle.
    row, column = divmod(int(found.argmax()), 9)
    assert 4 <= row < 13 and 2 <= column < 7
    with pytest.raises(RelightError, match="did you mean 'teapot'"):
        teacher.text(["teapott"])


def test_what_cannot_be_made_is_explained(tmp_path):
    with pytest.raises(RelightError, match="did you mean 'clip'"):
        create("clib")
    with pytest.raises(RelightError, match="needs a source"):
        create("dino")
    with pytest.raises(RelightError, match="takes no source"):
        create("xfeat", "somewhere")
    with pytest.raises(RelightError, match="no module"):
        create("nowhere_at_all:Teacher")


def tiny(folder: Path, kind: str) -> str:
    """A network of the kind with random weights, saved as such networks are."""
    transformers = pytest.importorskip("transformers", reason="the extra `features` is not installed")
    torch.manual_seed(0)
    width = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    if kind == "clip":
        vision = {**width, "image_size": 32, "patch_size": 8}
        text = {**width, "vocab_size": 64, "max_position_embeddings": 16}
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
        network = transformers.CLIPModel(config)
    elif kind == "sam":
        vision = {**width, "image_size": 64, "patch_size": 8, "output_channels": 16, "mlp_dim": 48,
                  "global_attn_indexes": [1], "window_size": 4, "num_pos_feats": 8}  # fmt: skip
        decoder = {**width, "hidden_size": 16, "mlp_dim": 24, "iou_head_hidden_dim": 16}
        prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
        config = transformers.SamConfig(vision_config=vision, mask_decoder_config=decoder, prompt_encoder_config=prompt)
        network = transformers.SamModel(config)
    else:
        cls = {"dinov2": "Dinov2", "dinov3": "DINOv3ViT", "registers": "Dinov2WithRegisters"}[kind]
        config = getattr(transformers, f"{cls}Config")(**width, image_size=32, patch_size=8)
        network = getattr(transformers, f"{cls}Model")(config)
    # SAM begins with zeros.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name"), [("dinov2", "dino"), ("dinov3", "dino"), ("registers", "dino"),
                                            ("clip", "clip"), ("sam", "sam")])  # fmt: skip
def test_transformers_load_from_a_folder(tmp_path, kind, name):
    teacher = made(name, tiny(tmp_path, kind))
    values = teacher(halves(48, 64))
    size = (6, 8)
    assert values.shape == (*size, sum(teacher.levels)) and values.isfinite().all()
    torch.testing.assert_close(values.norm(dim=-1), torch.ones(size))
    assert values.std((0, 1)).max() > 1e-3
    with pytest.raises(RelightError, match="expected"):
        create("sam" if name != "sam" else "clip", str(tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sam_gives_masks_that_differ(tmp_path):
    teacher = made("sam-masks", tiny(tmp_path, "sam"))
    assert isinstance(teacher, MaskExtractor)
    # Random weights are never sure.
    assert teacher.masks(halves(48, 64)).shape == (0, 24, 32)
    teacher.sure, teacher.steady, teacher.points = -torch.inf, 0.0, 4  # type: ignore[attr-defined]
    network = teacher.network  # type: ignore[attr-defined]
    forward = network.forward

    def spread(**told):
        out = forward(**told)
        logits = out.pred_masks
        out.pred_masks = (logits - logits.mean((-1, -2), keepdim=True)) / logits.std((-1, -2), keepdim=True) * 4
        return out

    network.forward = spread
    masks = teacher.masks(halves(48, 64))
    assert masks.dtype == torch.bool and 1 <= len(masks) <= 48 and masks.shape[1:] == (24, 32)
    flat = masks.flatten(1).float()
    both = flat @ flat.T
    overlap = both / (flat.sum(1)[:, None] + flat.sum(1) - both)
    assert (overlap - torch.eye(len(masks))).max() <= 0.7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_words_are_where_pictures_are(tmp_path):
    teacher = made("clip", tiny(tmp_path, "clip"))
    assert isinstance(teacher, TextExtractor)
    with pytest.raises(RelightError, match="tokenizer"):
        teacher.text(["a bunny"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_folder_without_weights_is_explained(tmp_path):
    pytest.importorskip("transformers", reason="the extra `features` is not installed")
    with pytest.raises(RelightError, match=r"config\.json"):
        create("dino", str(tmp_path))
