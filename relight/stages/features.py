"""Stage `features`: what a network says of the photographs, said of the Gaussians."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from relight.errors import MissingPartError, RelightError
from relight.fit.feature_space import principal
from relight.fit.groups import Masks, grouped
from relight.fit.teachers import NEED_SOURCE, FeatureExtractor, MaskExtractor, create
from relight.fit.uplift import SEEN, Refinement, Seen, agreement, uplift
from relight.geometry.camera import evenly
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer
from relight.resize import averaged
from relight.scene import FeatureBasis, Scene
from relight.stages.base import Job, Stage
from relight.views import Photo, Views

SAMPLES = 200_000
"""Pixels of all photographs that principal components are found from."""
GREY = 0.5
"""What a teacher sees behind a cut-out."""


@dataclass(frozen=True, kw_only=True)
class Features(Stage):
    """Give every Gaussian a vector that is like that of Gaussians of the same thing: for selecting and grouping.

    Training-free: the mean of what a teacher says of the pixels that a Gaussian shows in (see relight/fit/uplift.py).
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "gaussians")
    gives: ClassVar[tuple[str, ...]] = ("gaussians", "feature_basis")
    files_or_names: ClassVar[tuple[str, ...]] = ("source",)

    teacher: str = "efficientnet-lite0"
    """efficientnet-lite0 or xfeat, whose packages hold weights; clip, dino or sam with a `source`; or module:Class.
    sam-masks, and whatever else gives masks: a Gaussian's features are its shares in things that masks of different
    photographs agree on (see relight/fit/groups.py)."""
    source: str | None = None
    """Folder, or name at a hub, with the weights of clip, dino, sam or sam-masks."""
    size: int = 512
    """Longest side, in pixels, of what the teacher is shown; photographs are enlarged or reduced to it."""
    channels: int = 32
    """Principal components that are kept.  1 to 1024; under 32, dense teachers lose much (Feature 3DGS, table 5)."""
    block: int = 64
    """Channels blended together; larger is faster and takes more memory."""
    refine: int = 0
    """Steps that fit the rendered features, and the basis, to the teacher's, a photograph each; 0 for none."""
    loss: Literal["cosine", "l1"] = "cosine"
    """Of those steps: 1 - cosine, or the mean absolute difference (Feature 3DGS)."""
    rate: float = 0.02
    """Of Adam in those steps, in standard deviations of the features."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "size": (32, 4096), "channels": (1, 1024), "block": (1, 1024), "refine": (0, 1_000_000), "rate": (0, 1),
        })  # fmt: skip
        if self.teacher in NEED_SOURCE and not self.source:
            raise ValueError(f"source: {self.teacher} needs a folder with its weights, or their name at a hub")

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views or Gaussians, RelightError without the teacher."""
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("features: the scene has no training views")
        if scene.gaussians is None or len(scene.gaussians) == 0:
            raise MissingPartError("features: the scene has no splat; put radiance before features")
        teacher = create(self.teacher, self.source)
        if isinstance(teacher, MaskExtractor):
            return self._grouped(scene, teacher, job)
        views, total = scene.views.train, 2 * len(scene.views.train) + self.refine
        done = 0

        def tell(metrics: dict[str, float] | None = None) -> None:
            nonlocal done
            done += 1
            job.report(done, total, metrics)

        maps, weights = [], []
        for index in range(len(views)):
            photo = views.photo(index).to(job.device)
            maps.append(described(teacher, photo, self.size).half())
            weights.append(_counts(photo))
            tell()
        basis, explained = self._basis(maps, weights, job.seed)
        pictures = _Pictures(views, maps, weights, basis, job.device)
        gaussians = scene.gaussians.to(job.device)
        rasterizer, options = create_rasterizer(job.backend, job.device), RasterOptions.for_extent(scene.frame.radius)

        def told() -> Iterator[Seen]:
            for picture in pictures:
                yield picture
                tell()

        feature, covered = uplift(rasterizer, gaussians, told(), options=options, block=self.block)
        metrics = {"explained": explained, "unseen": float((covered <= SEEN).float().mean())}
        if self.refine:
            field = Refinement(
                rasterizer, gaussians, feature, basis.directions, basis.mean, options, self.loss, self.rate
            )
            generator = torch.Generator().manual_seed(job.seed)
            for _ in range(self.refine):
                index = int(torch.randint(len(views), (), generator=generator))
                loss = field.step([replace(pictures[index], values=maps[index].float())])
                tell({"loss": loss} if done % 20 == 0 else None)
            feature, basis = field.feature.detach(), replace(basis, directions=field.decoder.detach())
        metrics["cosine"] = 1 - disagreement(feature, basis, pictures, maps, rasterizer, gaussians, options)
        job.report(total, total, metrics)
        channels = {**scene.gaussians.channels, "feature": feature.half().cpu()}
        return replace(scene, gaussians=replace(scene.gaussians, channels=channels), feature_basis=basis)

    def _grouped(self, scene: Scene, teacher: MaskExtractor, job: Job) -> Scene:
        """Features that are shares in groups, a direction each."""
        assert scene.views is not None and scene.gaussians is not None
        views, gaussians = scene.views.train, scene.gaussians.to(job.device).detach()
        rasterizer, options = create_rasterizer(job.backend, job.device), RasterOptions.for_extent(scene.frame.radius)
        seen, count = [], 0
        for index in range(len(views)):
            photo, camera = views.photo(index).to(job.device), views.camera(index).to(job.device)
            masks = teacher.masks(shown(photo, self.size)).float()
            count += len(masks)
            sized = interpolate(masks[None], (camera.height, camera.width), mode="area")[0] if len(masks) else masks
            sized = sized.reshape(len(masks), camera.height, camera.width)
            seen.append(Masks.of(rasterizer, gaussians, camera, sized > 0.5, options))
            job.report(index + 1, len(views) + 1)
        feature = grouped(seen, self.channels)
        if not feature.shape[1]:
            raise RelightError(
                f"features: {count} masks in {len(views)} photographs, and no two of different photographs agree; "
                "use more photographs, or a teacher that gives features"
            )
        directions = torch.eye(feature.shape[1])
        basis = FeatureBasis(torch.zeros(feature.shape[1]), directions, self.teacher, self.source)
        metrics = {"masks": float(count), "groups": float(len(directions))}
        metrics["ungrouped"] = float((feature.amax(1) < 0.5).float().mean())
        job.report(len(views) + 1, len(views) + 1, metrics)
        channels = {**scene.gaussians.channels, "feature": feature.half().cpu()}
        return replace(scene, gaussians=replace(scene.gaussians, channels=channels), feature_basis=basis)

    def _basis(self, maps: list[Tensor], weights: list[Tensor], seed: int) -> tuple[FeatureBasis, float]:
        """Principal components of what the teacher says of the subject."""
        generator = torch.Generator().manual_seed(seed)
        each, rows = max(1, SAMPLES // len(maps)), []
        for values, weight in zip(maps, weights, strict=True):
            inside = values[_small(weight, values) > 0.5]
            rows.append(inside[torch.randperm(len(inside), generator=generator)[:each].to(inside.device)])
        samples = torch.cat(rows).float().cpu()
        if len(samples) < 2:
            raise RelightError("features: no pixel of the training photographs may be used; look at their masks")
        mean, directions, explained = principal(samples, min(self.channels, samples.shape[1]))
        return FeatureBasis(mean, directions, self.teacher, self.source), explained


@dataclass
class _Pictures:
    """The training photographs as reduced features."""

    views: Views
    maps: list[Tensor]
    weights: list[Tensor]
    basis: FeatureBasis
    device: torch.device

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> Seen:
        values = (self.maps[index].float() - self.basis.mean) @ self.basis.directions.T
        return Seen(self.views.camera(index).to(self.device), values, self.weights[index])

    def __iter__(self) -> Iterator[Seen]:
        return (self[index] for index in range(len(self)))


def described(teacher: FeatureExtractor, photo: Photo, size: int) -> Tensor:
    """(h, w, C) of a photograph as it is `shown`."""
    return teacher(shown(photo, size))


def shown(photo: Photo, size: int) -> Tensor:
    """(h, w, 3) of a photograph enlarged or reduced to `size`, over grey where it is cut out."""
    rgb = photo.rgb.clamp(0, 1)
    if photo.alpha is not None:
        rgb = torch.lerp(torch.full_like(rgb, GREY), rgb, photo.alpha[..., None])
    factor = size / max(rgb.shape[:2])
    wanted = [max(1, round(n * factor)) for n in rgb.shape[:2]]
    picture = interpolate(rgb.permute(2, 0, 1)[None], wanted, mode="bicubic", antialias=factor < 1)
    return picture[0].permute(1, 2, 0).clamp(0, 1).contiguous()


def disagreement(feature, basis: FeatureBasis, pictures: _Pictures, maps, rasterizer, gaussians, options) -> float:
    """Mean of 1 - cosine between what is rendered and what the teacher said, of up to eight photographs."""
    total, count = 0.0, 0.0
    with torch.no_grad():
        for index in evenly(len(pictures), 8):
            picture, values = pictures[index], maps[index].float()
            image = rasterizer.rasterize(gaussians, picture.camera, feature.float(), options)
            found = image.features / image.alpha.clamp_min(1e-3)[..., None]
            found = averaged(found, *values.shape[:2])
            weight = _small(pictures.weights[index] * image.alpha, values)
            total += float((agreement(basis.widened(found), values, "cosine") * weight).sum())
            count += float(weight.sum())
    return total / max(count, 1e-6)


def _counts(photo: Photo) -> Tensor:
    """(H, W) how far a pixel of the photograph counts."""
    weight = torch.ones_like(photo.rgb[..., 0]) if photo.alpha is None else photo.alpha
    return weight if photo.mask is None else weight * photo.mask


def _small(weight: Tensor, values: Tensor) -> Tensor:
    return averaged(weight[..., None], *values.shape[:2])[..., 0]
