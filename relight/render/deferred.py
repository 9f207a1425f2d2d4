"""Deferred shading of splats: materials are blended first, then each pixel is shaded once, as a surface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relight.errors import MissingPartError
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import SplatRender, render
from relight.shading.color import exposed
from relight.shading.surface import Surface
from relight.vectors import unit

MATERIALS = ("base_color", "roughness", "metallic", "progress")
"""Channels that are blended, in this order."""
SOLID = 0.05
"""Pixels of less alpha are not shaded."""


@dataclass(frozen=True)
class GBuffer:
    """What a camera sees of a splat with materials.

    surface: (N,) points, those of the N pixels of `mask`, row by row.  progress: (N,) share of physically based colour.
    splat: the captured look, alpha, depth, normals and screen statistics of the same pass.
    further: (N, F) what else was blended, or None.
    """

    surface: Surface
    progress: Tensor
    mask: Tensor
    splat: SplatRender
    further: Tensor | None = None

    def spread(self, values: Tensor) -> Tensor:
        """(N, C) values of the points to a picture (H, W, C), 0 elsewhere.  Differentiable."""
        picture = values.new_zeros(self.mask.numel(), values.shape[1])
        index = self.mask.flatten().nonzero()[:, 0]
        return picture.index_copy(0, index, values).view(*self.mask.shape, values.shape[1])

    def lit(self, radiance: Tensor) -> Tensor:
        """(H, W, 4) premultiplied picture of (N, 3) linear radiance of the points, and alpha.  Differentiable."""
        alpha = self.splat.alpha[..., None]
        return torch.cat([self.spread(radiance) * alpha, alpha * self.mask[..., None]], -1)

    def at(self, picture: Tensor) -> Tensor:
        """(N, C) values of an (H, W, C) picture at the points."""
        return picture[self.mask]


def gbuffer(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    camera: Camera,
    *,
    options: RasterOptions = RasterOptions(),
    sh_degree: int | None = None,
    further: Tensor | None = None,
) -> GBuffer:
    """Materials, normals and depth of a splat by `rasterizer` in one pass (Ye, Hou and Zhou,
    3DGS with Deferred Reflection, SIGGRAPH 2024).

    further: (M, F) more to blend, of the M Gaussians.
    Normals are channel "normal" where there is one, which points outwards, else those of the Gaussians' shape.
    Differentiable in all of the Gaussians.  Raises MissingPartError for a splat without materials.
    """
    missing = [name for name in MATERIALS if name not in gaussians.channels]
    if missing:
        raise MissingPartError(f"shading: the splat has no {', '.join(missing)}; run the stage distill first")
    values = [gaussians.channels[name] for name in MATERIALS]
    columns = [v if v.ndim == 2 else v[:, None] for v in values]
    own_normals = "normal" in gaussians.channels
    if own_normals:
        columns.append(gaussians.channels["normal"])
    own = sum(c.shape[1] for c in columns)
    if further is not None:
        columns.append(further)
    splat = render(
        rasterizer, gaussians, camera, sh_degree=sh_degree, options=options, normals=not own_normals,
        features=torch.cat(columns, 1),
    )  # fmt: skip
    assert splat.features is not None
    mask = splat.alpha.detach() > SOLID
    features = splat.features[mask] / splat.alpha[mask][:, None]
    position = camera.unproject(splat.depth)[mask]
    view = -camera.ray_directions()[mask]
    normal = unit(features[:, 6:9]) if splat.normals is None else splat.normals[mask]
    surface = Surface(
        position=position,
        normal=_towards(normal, view),
        view=view,
        base_color=features[:, :3],
        roughness=features[:, 3],
        metallic=features[:, 4],
    )
    return GBuffer(surface, features[:, 5], mask, splat, None if further is None else features[:, own:])


def blend(buffer: GBuffer, radiance: Tensor) -> Tensor:
    """(H, W, 3) sRGB-encoded, premultiplied: progress x `radiance` + (1 - progress) x captured look.

    radiance: (N, 3) linear, of the buffer's points.  Ye, Hou and Zhou, Progressive Radiance Distillation, 2024.
    """
    progress = buffer.spread(buffer.progress[:, None])
    return (1 - progress) * buffer.splat.color + progress * displayed(buffer, radiance)


def displayed(buffer: GBuffer, radiance: Tensor) -> Tensor:
    """(H, W, 3) sRGB-encoded, premultiplied picture of (N, 3) linear radiance of the buffer's points; see `exposed`."""
    return buffer.spread(exposed(radiance)) * buffer.splat.alpha[..., None]


def _towards(normal: Tensor, view: Tensor) -> Tensor:
    """Blended normals leant towards the eye until they are not seen from behind."""
    cosine = (normal * view).sum(-1, keepdim=True)
    return unit(normal + (0.02 - cosine).clamp_min(0) * view)
