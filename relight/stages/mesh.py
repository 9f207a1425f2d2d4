"""Stage `mesh`: from a splat to a textured mesh with glTF materials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.errors import BackendUnavailableError, MissingPartError
from relight.fit.outline import fit_outlines
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh
from relight.render import tracing
from relight.render.atlas import PADDING, Texels, texture_size, unwrap
from relight.render.baking import bake_normals, bake_occlusion, bake_splat, completed
from relight.render.meshes import create_mesh_rasterizer
from relight.render.meshing import decimated, poisson, repaired
from relight.render.protocol import RasterOptions
from relight.render.proxy import fuse
from relight.render.relit import has_materials
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.shading.color import srgb_to_linear
from relight.stages.base import Job, Stage

STEPS = ("surface", "cleaned", "unwrapped", "materials", "normals", "occlusion", "done")
FLAT = {"roughness": 0.7, "metallic": 0.0}
"""Of a splat without materials, whose captured look becomes the base colour."""


@dataclass(frozen=True, kw_only=True)
class MeshAsset(Stage):
    """A mesh of the splat's surface, with base colour, roughness, metallic, normals and occlusion as textures.

    Put it after `distill`, so that textures hold materials; after `radiance` alone their colour is the captured look.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "gaussians")
    gives: ClassVar[tuple[str, ...]] = ("asset",)
    version: ClassVar[int] = 2

    surface: Literal["tsdf", "poisson"] = "tsdf"
    """tsdf: distances to the splat's depth, fused; follows it closely.  poisson: smoother, and closes what is open."""
    pixels: float = 2.0
    """Side of a voxel, in pixels of a typical photograph.  0.5 to 16; finer follows the noise of the depth."""
    holes: float = 0.1
    """Largest hole that is closed, of the subject's radius."""
    triangles: int = 20_000
    """At most; detail that goes is kept by the normal map."""
    outline_steps: int = 300
    """Of moving vertices until outlines are those of the photographs' cut-outs, a photograph each; 0 for none.  Halves
    the distance to the real surface on path-traced captures."""
    texels_per_pixel: float = 1.0
    """Along the side of a pixel of the photographs: how sharp textures are."""
    max_texture: int = 2048
    """Most texels along the side of a texture; it is a power of two."""
    padding: int = PADDING
    """Texels between charts of the atlas, at least."""
    normal_map: bool = True
    """Bake normals of the surface before decimation."""
    occlusion_rays: int = 32
    """A texel, for the occlusion texture; 0 for none."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "pixels": (0.5, 16), "holes": (0, 1), "triangles": (100, 2_000_000), "texels_per_pixel": (0.1, 8),
            "max_texture": (16, 8192), "padding": (1, 64), "occlusion_rays": (0, 4096),
            "outline_steps": (0, 100_000),
        })  # fmt: skip

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views or Gaussians, BackendUnavailableError without Open3D or xatlas,
        NoSurfaceError for a splat that makes no surface."""
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("mesh: the scene has no training views")
        if scene.gaussians is None or len(scene.gaussians) == 0:
            raise MissingPartError("mesh: the scene has no splat; put radiance before mesh")
        reason = tracing.unavailable()
        if reason:
            raise BackendUnavailableError(f"mesh: {reason}")
        return replace(scene, asset=_Extraction(self, scene, scene.gaussians, job).run())


class _Extraction:
    """The parts of one run, each of which takes seconds, so there are no checkpoints."""

    def __init__(self, options: MeshAsset, scene: Scene, gaussians: Gaussians, job: Job):
        assert scene.views is not None
        self.options, self.job = options, job
        self.gaussians, self.views = gaussians.to(job.device), scene.views.train
        self.cameras: Sequence[Camera] = [self.views.camera(i).to(job.device) for i in range(len(self.views))]
        self.rasterizer, self.triangles = create_rasterizer(job.backend, job.device), create_mesh_rasterizer()
        self.raster = RasterOptions.for_extent(scene.frame.radius)

    def run(self) -> Mesh:
        o = self.options
        fine = self._surface()
        self._report("surface", {"triangles of the surface": len(fine.faces)})
        radius = float((fine.vertices.amax(0) - fine.vertices.amin(0)).max()) / 2
        # A closed surface has no holes to fill, and poisson has cut its own.
        holes = o.holes * radius if o.surface == "tsdf" else 0.0
        whole = repaired(fine, holes=holes, cameras=self.cameras, rasterizer=self.triangles)
        mesh = decimated(whole, o.triangles)
        mesh = fit_outlines(mesh, self.views, self.triangles, steps=o.outline_steps, seed=self.job.seed)
        self._report("cleaned", {"triangles": len(mesh.faces)})
        size = texture_size(mesh, self.cameras, most=o.max_texture, per_pixel=o.texels_per_pixel)
        mesh = unwrap(mesh, size, padding=o.padding).with_smooth_normals().with_tangents()
        self._report("unwrapped", {"texture": size})
        texels = Texels.of(mesh, size, size, self.triangles)
        values, confidence = self._materials(mesh, texels)
        self._report("materials", {"unseen texels": float((confidence < 0.1).float().mean())})
        normals = bake_normals(mesh, texels, fine) if o.normal_map else None
        self._report("normals")
        occlusion = torch.ones(len(confidence))
        if o.occlusion_rays:
            occlusion = bake_occlusion(mesh, texels, rays=o.occlusion_rays, seed=self.job.seed)
        self._report("occlusion")
        closed = bool((mesh.opposite_corners >= 0).all())
        asset = replace(mesh, materials=(clothing(texels, values, confidence, occlusion, normals, not closed),))
        self._report("done", {"closed": float(closed)})
        return asset

    def _surface(self) -> Mesh:
        o = self.options
        if o.surface == "tsdf":
            return fuse(self.rasterizer, self.gaussians, self.cameras, options=self.raster, pixels=o.pixels)
        return poisson(
            self.rasterizer, self.gaussians, self.cameras, options=self.raster, pixels=o.pixels, holes=o.holes
        )

    def _materials(self, mesh: Mesh, texels: Texels) -> tuple[Tensor, Tensor]:
        """(T, 5) base colour, roughness and metallic; (T,) confidence."""
        gaussians, looks_alone = self.gaussians, not has_materials(self.gaussians)
        if looks_alone:
            look = sh.to_constant(gaussians.sh[:, 0]).clamp(0, 1)
            flat = {name: torch.full_like(look[:, 0], value) for name, value in FLAT.items()}
            channels = {"base_color": srgb_to_linear(look), "progress": torch.ones_like(look[:, 0]), **flat}
            gaussians = replace(gaussians, channels=channels)
        values, confidence = bake_splat(
            self.rasterizer, gaussians, mesh, texels, self.cameras, self.triangles, options=self.raster
        )
        return completed(mesh, texels, values, confidence)[:, :5].clamp(0, 1), confidence

    def _report(self, step: str, metrics: dict[str, float] | None = None) -> None:
        self.job.report(STEPS.index(step) + 1, len(STEPS), metrics)


def clothing(
    texels: Texels, values: Tensor, confidence: Tensor, occlusion: Tensor, normals: Tensor | None, double_sided: bool
) -> Material:
    """glTF's material of (T, 5) base colour, roughness and metallic and (T,) occlusion of texels; (T, 3) normals."""
    certain = texels.picture(confidence[:, None])[..., 0] * texels.mask
    packed = texels.picture(torch.cat([occlusion[:, None], values[:, 3:5]], 1))
    both = Texture(packed, ("clamp", "clamp"))
    return Material(
        name="relight",
        base_color_texture=Texture(texels.picture(values[:, :3]), ("clamp", "clamp"), confidence=certain),
        metallic_roughness_texture=both,
        occlusion_texture=both,
        normal_texture=None if normals is None else Texture(texels.picture(normals), ("clamp", "clamp")),
        double_sided=double_sided,
    )
