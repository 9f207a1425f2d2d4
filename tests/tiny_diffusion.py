"""Models of diffusion as published, shrunk to a few channels and with weights by chance: twins for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ("a", "red", "ball", "made", "of", "rusty", "metal", "lit", "from", "the", "left", "bad")
TOKEN = 8


def unet(takes: int = 4, makes: int = 4, token: int = TOKEN, **options: Any) -> Any:
    """`UNet2DConditionModel` of two levels, one with cross-attention."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=takes,
        out_channels=makes,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=token,
        attention_head_dim=2,
        norm_num_groups=4,
        **options,
    ).eval()


def vae(pictures: int = 3, latents: int = 4) -> Any:
    """`AutoencoderKL`, 2 pixels a latent."""
    import diffusers

    torch.manual_seed(2)
    kind: Any = diffusers.AutoencoderKL  # annotated more narrowly than it is
    return kind(
        in_channels=pictures,
        out_channels=pictures,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=latents,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


def controlnet(channels: int = 3) -> Any:
    """`ControlNetModel` for `unet()`, one stride in its embedding as 2 pixels make a latent; says something."""
    from diffusers import ControlNetModel

    torch.manual_seed(3)
    made = ControlNetModel(
        in_channels=4,
        conditioning_channels=channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=TOKEN,
        attention_head_dim=2,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(8, 16),
    ).eval()
    stir(made)
    return made


def stir(network: torch.nn.Module, by: float = 0.1) -> None:
    """Add noise to all weights, so that none are zero any more."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in network.parameters():
            weight += by * torch.randn(weight.shape, generator=generator)


def tokenizer(folder: Path) -> Any:
    """CLIP's, which knows `WORDS`."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    ends = [f"{w}</w>" for w in WORDS]
    letters = sorted({c for w in WORDS for c in w})
    merges, parts = [], []
    for word in WORDS:
        left = word[0] if len(word) > 1 else ""
        for k, letter in enumerate(word[1:], 1):
            right = letter + ("</w>" if k == len(word) - 1 else "")
            merges.append(f"{left} {right}")
            left += right
            parts.append(left)
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters), *parts, *ends]
    vocabulary = {name: k for k, name in enumerate(dict.fromkeys(names))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=16)


def text_encoder(vocabulary: int, projected: bool = False) -> Any:
    """`CLIPTextModel`, or with its projection."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(4)
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=TOKEN, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=TOKEN, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def vision_encoder() -> Any:
    """`CLIPVisionModelWithProjection` of pictures of 224 pixels."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=32,
        projection_dim=TOKEN,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def scheduler(prediction: str = "epsilon") -> Any:
    """That of Stable Diffusion."""
    import diffusers

    kind: Any = diffusers.DDIMScheduler
    return kind(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True,
        timestep_spacing="trailing", steps_offset=1, prediction_type=prediction,
    )  # fmt: skip


def stable_diffusion(folder: Path, prediction: str = "epsilon") -> Any:
    """A pipeline, saved in `folder`."""
    import diffusers

    kind: Any = diffusers.StableDiffusionPipeline
    words = tokenizer(folder / "words")
    pipeline = kind(
        unet=unet(), vae=vae(), text_encoder=text_encoder(len(words)), tokenizer=words,
        scheduler=scheduler(prediction), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline
