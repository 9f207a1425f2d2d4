"""Vision transformers by name at a hub or from a folder: CLIP, DINOv2, DINOv3 and SAM, through `transformers`.

The weights are not ours to ship.  Nothing is downloaded where `source` is a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relight.errors import DataError, RelightError
from relight.fit.teachers.weights import joined, missing, planes, resized

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and standard deviation that the networks were trained with."""


class _Transformer:
    """A network and how it is fed.  source: folder with config.json and weights, or name at a hub."""

    kinds: tuple[str, ...] = ()
    """`model_type`s of config.json, as prefixes."""
    standard = IMAGENET

    def __init__(self, source: str) -> None:
        """Raises BackendUnavailableError without transformers, DataError for what isn't this kind of network."""
        try:
            import transformers
        except ImportError as error:
            raise missing(type(self).__name__.lower(), "transformers") from error
        self.name, self.source, self.library = source, source, transformers
        self.here = Path(source).is_dir()
        try:
            config = transformers.AutoConfig.from_pretrained(source, local_files_only=self.here)
            kind = str(config.model_type)
            if kind.startswith(self.kinds):
                self.network: Any = transformers.AutoModel.from_pretrained(
                    source, local_files_only=self.here, use_safetensors=True, dtype=torch.float32
                )
        except (OSError, ValueError, KeyError) as error:
            where = "folder" if self.here else "no such folder, and at the hub"
            raise DataError(
                f"{source}: {where}: can't be loaded ({str(error).splitlines()[0]}); give a folder with config.json "
                "and model.safetensors, or a hub's name"
            ) from error
        if not kind.startswith(self.kinds):
            raise DataError(
                f"{source}: is a {kind}, expected {' or '.join(self.kinds)}; name another teacher or source"
            )
        self.network.eval().requires_grad_(False)
        self.levels = (self._channels(),)

    def _channels(self) -> int:
        return int(self.network.config.hidden_size)

    def _prepared(self, rgb: Tensor, patch: int) -> Tensor:
        height, width = (max(1, round(n / patch)) * patch for n in rgb.shape[:2])
        self.network.to(rgb.device)
        return resized(planes(rgb, *self.standard), height, width)


class Dino(_Transformer):
    """`FeatureExtractor` of DINOv2 (Oquab et al., TMLR 2024; with registers or without) and DINOv3 (Siméoni et al.,
    2025; vision transformers): what its patches end as."""

    kinds = ("dinov2", "dinov3_vit")

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`.  A vector a patch."""
        patch = int(self.network.config.patch_size)
        picture = self._prepared(rgb, patch)
        tokens = self.network(pixel_values=picture).last_hidden_state
        height, width = (n // patch for n in picture.shape[-2:])
        # The class token and registers come first.
        return joined([tokens[:, -height * width :].mT.unflatten(2, (height, width))])


class Clip(_Transformer):
    """`FeatureExtractor` and `TextExtractor` of CLIP (Radford et al., ICML 2021).

    Dense as in MaskCLIP (Zhou et al., ECCV 2022): the last layer's attention is left out, of which only values and
    their projection remain, so that a patch tells of itself and not of the whole picture.
    """

    kinds = ("clip",)
    standard = CLIP

    def _channels(self) -> int:
        return int(self.network.config.projection_dim)

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`.  A vector a patch."""
        vision = self.network.vision_model
        patch = int(vision.config.patch_size)
        picture = self._prepared(rgb, patch)
        last, seen = vision.encoder.layers[-1], []
        hook = last.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
        try:
            vision(pixel_values=picture, interpolate_pos_encoding=True)
        finally:
            hook.remove()
        values = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(seen[0])))
        tokens = self.network.visual_projection(vision.post_layernorm(values))
        height, width = (n // patch for n in picture.shape[-2:])
        return joined([tokens[:, -height * width :].mT.unflatten(2, (height, width))])

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """See `TextExtractor`.  Raises DataError where the source has no tokenizer."""
        # Without these files transformers makes up a tokenizer that knows no words.
        if self.here and not any((Path(self.source) / file).is_file() for file in ("tokenizer.json", "vocab.json")):
            raise DataError(f"{self.source}: has no tokenizer.json or vocab.json, which text needs; add the tokenizer")
        try:
            tokenizer = self.library.AutoTokenizer.from_pretrained(self.source, local_files_only=self.here)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.source}: has no tokenizer, which text needs ({error})") from error
        words = tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        found = self.network.get_text_features(**{k: v.to(self.network.device) for k, v in words.items()})
        found = found if isinstance(found, Tensor) else found.pooler_output
        return torch.nn.functional.normalize(found, dim=-1).cpu()


class Sam(_Transformer):
    """`FeatureExtractor` of SAM (Kirillov et al., ICCV 2023): its image embedding, 256 channels of 64 x 64."""

    kinds = ("sam",)

    def _channels(self) -> int:
        return int(self.network.config.vision_config.output_channels)

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """See `FeatureExtractor`."""
        found, size = self._embedded(rgb)
        return joined([_cut(found, size)])

    def _embedded(self, rgb: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """(1, C, n, n), of a square in which the picture's longer side is all of a side and the rest is empty; and the
        shares of the square's sides that its height and width are."""
        side = int(self.network.config.vision_config.image_size)
        self.network.to(rgb.device)
        height, width = (max(1, round(n * side / max(rgb.shape[:2]))) for n in rgb.shape[:2])
        picture = torch.zeros(1, 3, side, side, device=rgb.device)
        picture[..., :height, :width] = resized(planes(rgb, *self.standard), height, width)
        found = self.network.get_image_embeddings(picture)
        if not isinstance(found, Tensor):
            raise RelightError(
                f"{self.source}: SAM gave {type(found).__name__}, expected one map; use a SAM of version 1"
            )
        return found, (height / side, width / side)


class SamMasks(Sam):
    """`MaskExtractor` of SAM: asked at a grid of points, and what it is sure of is kept (its "everything" mode)."""

    points = 16
    """Along a side."""
    together = 64
    """Points asked at once."""
    sure, steady, same = 0.88, 0.92, 0.7
    """Least quality that it expects of a mask itself, least overlap of the masks at logits of 1 and -1, and the overlap
    from which on two masks are one (0.88, 0.95 and 0.7 in SAM's own code, at a grid of 32)."""

    @torch.no_grad()
    def masks(self, rgb: Tensor) -> Tensor:
        """See `MaskExtractor`.  The best first."""
        embedding, share = self._embedded(rgb)
        side = int(self.network.config.vision_config.image_size)
        line = (torch.arange(self.points, device=rgb.device) + 0.5) / self.points * side
        grid = torch.stack(torch.meshgrid(line * share[0], line * share[1], indexing="ij"), -1).flatten(0, 1).flip(1)
        kept, scores = [], []
        for some in grid.split(self.together):
            out = self.network(image_embeddings=embedding, input_points=some[None, :, None], multimask_output=True)
            logits = _cut(out.pred_masks[0].flatten(0, 1), share)
            score = out.iou_scores[0].flatten()
            inner, outer = ((logits > level).flatten(1).sum(1) for level in (1, -1))
            good = (score >= self.sure) & (inner >= self.steady * outer) & (inner > 0)
            kept.append(logits[good] > 0)
            scores.append(score[good])
        masks = torch.cat(kept)[torch.cat(scores).argsort(descending=True)]
        return _distinct(masks, self.same)


def _cut(square: Tensor, share: tuple[float, float]) -> Tensor:
    """(..., h, w): the picture's part of a square that is empty beside it."""
    rows, columns = (max(1, round(square.shape[-1] * s)) for s in share)
    return square[..., :rows, :columns]


def _distinct(masks: Tensor, same: float) -> Tensor:
    """Those of (M, h, w) masks, the best first, that overlap none before them so much."""
    flat = masks.flatten(1).float()
    area, both = flat.sum(1), flat @ flat.T
    overlap = both / (area[:, None] + area - both).clamp_min(1)
    kept: list[int] = []
    for index in range(len(masks)):
        if all(overlap[index, k] <= same for k in kept):
            kept.append(index)
    return masks[kept]
