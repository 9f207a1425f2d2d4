"""Textures of a mesh under gradient descent, through the mesh renderer and the shared shading.

    pixels = Pixels.of(mesh, views, rasterizer)          # once: shapes do not change
    points, progress, look = textures.at(pixels[chosen])
    radiance = shading.split_sum(pixels[chosen], points, light, rays=2, seed=step)

As in `distill`, a pixel is progress x shaded materials + (1 - progress) x captured look (Ye, Hou and Zhou, Progressive
Radiance Distillation, 2024); all of it comes from textures with mips here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from relight.errors import MissingPartError
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh
from relight.render.atlas import Texels
from relight.render.baking import average_views, bake_occlusion, completed
from relight.render.fragments import interpolate_derivatives
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.meshes import Visible, surface
from relight.render.proxy import Proxy
from relight.render.textures import Pyramid, level_of_detail, lookup
from relight.render.transfer import Shadowed, Transfer, mirrored
from relight.shading.environment import Environment
from relight.shading.shade import Estimator, SplitSum, shade
from relight.shading.surface import Surface
from relight.shading.tracing import Tracer
from relight.views import Views

MOST_PIXELS = 3_000_000
"""Kept of all photographs together, chosen at random: 350 MB."""
WHITE = 0.99
"""Encoded; brighter pixels may be brighter than the photograph could hold."""
LEVEL = 1 / 3
"""Finest mips are blurred by no less: of an unresolved texture half the texels would never learn."""


@dataclass(frozen=True)
class Pixels:
    """P pixels of photographs that show a mesh, in any order.

    position, normal, geometric_normal, view: (P, 3), see `Surface`.  uv, uv_dx, uv_dy: (P, 2) and its change to the
    next pixel right and down.  face: (P,).  weights: (P, 3) of its corners.  color: (P, 3) sRGB-encoded photograph.
    view_index: (P,) of the photograph.
    """

    position: Tensor
    normal: Tensor
    geometric_normal: Tensor
    view: Tensor
    uv: Tensor
    uv_dx: Tensor
    uv_dy: Tensor
    face: Tensor
    weights: Tensor
    color: Tensor
    view_index: Tensor

    def __len__(self) -> int:
        return len(self.face)

    def __getitem__(self, index) -> Pixels:
        return Pixels(*(getattr(self, f.name)[index] for f in fields(self)))

    def drawn(self, count: int, views: Views, light_follows: bool, generator: torch.Generator) -> tuple[int, Pixels]:
        """At most `count` pixels of photographs in one light, and the index of one of these.

        light_follows: the camera, so that each photograph has a light of its own.
        """
        one = int(torch.randint(len(self), (1,), generator=generator))
        view = int(self.view_index[one])
        count = min(count, len(self))
        names = {v.light for v in views}
        if not light_follows and len(names) < 2:
            return view, self[torch.randint(len(self), (count,), generator=generator)]
        same = torch.tensor([i == view if light_follows else v.light == views[view].light for i, v in enumerate(views)])
        lit = same[self.view_index].nonzero()[:, 0]
        return view, self[lit[torch.randint(len(lit), (count,), generator=generator)]]

    def surface(self, base_color: Tensor, roughness: Tensor, metallic: Tensor) -> Surface:
        """With (P, 3), (P,) and (P,) materials."""
        return Surface(
            self.position, self.normal, self.view, base_color, roughness, metallic,
            geometric_normal=self.geometric_normal,
        )  # fmt: skip

    @staticmethod
    def seen(mesh: Mesh, camera: Camera, rasterizer: MeshRasterizer) -> tuple[Visible, Pixels]:
        """What a camera sees of the mesh, and its pixels in the same order: black, of view 0."""
        with torch.no_grad():
            seen = surface(mesh, camera, rasterizer, cull=False)
            assert mesh.uv is not None and seen.surface.geometric_normal is not None
            right, down = interpolate_derivatives(mesh.uv, mesh.faces, seen.fragments)
            s, at = seen.surface, seen.mask
            face, weights = seen.fragments.face[at].long(), seen.fragments.barycentrics[at]
            return seen, Pixels(
                s.position, s.normal, seen.surface.geometric_normal, s.view,
                _interpolated(mesh.uv, mesh, face, weights), right[at], down[at], face, weights,
                torch.zeros_like(s.position), torch.zeros_like(face),
            )  # fmt: skip

    @staticmethod
    def of(mesh: Mesh, views: Views, rasterizer: MeshRasterizer, *, seed: int = 0) -> Pixels:
        """All pixels that show the mesh and that a photograph's cut-out fully covers; at most `MOST_PIXELS`.

        Normal maps count; other materials don't.  Raises MissingPartError if there are none: the mesh then lies
        elsewhere than what was photographed.
        """
        generator = torch.Generator().manual_seed(seed)
        parts: list[Pixels] = []
        for index in range(len(views)):
            photo = views.photo(index)
            seen, every = Pixels.seen(mesh, views.camera(index), rasterizer)
            good = torch.ones_like(seen.mask) if photo.alpha is None else photo.alpha > WHITE
            if photo.mask is not None:
                good = good & photo.mask
            kept = good[seen.mask].nonzero()[:, 0]
            most = MOST_PIXELS // len(views)
            if len(kept) > most:
                kept = kept[torch.randperm(len(kept), generator=generator)[:most]]
            colored = replace(every, color=photo.rgb[seen.mask], view_index=torch.full_like(every.face, index))
            parts.append(colored[kept])
        found = Pixels(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Pixels)))
        if not len(found):
            raise MissingPartError(
                "materials: no photograph shows the mesh; it must lie where the capture's cameras look, in their frame"
            )
        return found


@dataclass(frozen=True)
class Shading:
    """How points of a mesh are shaded while textures are fitted.

    proxy, transfer: shadows and light by way of the mesh itself, `transfer` at the mesh's vertices; None for neither.
    tracer: for Monte Carlo.
    """

    mesh: Mesh
    proxy: Proxy | None = None
    transfer: Transfer | None = None
    tracer: Tracer | None = None

    def split_sum(self, pixels: Pixels, points: Surface, light: Environment, *, rays: int, seed: int) -> Tensor:
        """(P, 3) radiance, with baked shadows if there are any."""
        return shade(points, self.arriving(pixels, points, light, rays=rays, seed=seed), SplitSum())

    def arriving(
        self, pixels: Pixels, points: Surface, light: Environment, *, rays: int, seed: int
    ) -> Environment | Shadowed:
        """The light as these points get it."""
        if self.proxy is None or self.transfer is None:
            return light
        sky = _interpolated(self.transfer.irradiance(light), self.mesh, pixels.face, pixels.weights)
        around = mirrored(self.proxy.above(points), self.proxy, rays=rays, seed=seed)
        return Shadowed(light, sky, *around)

    def sampled(self, points: Surface, light: Environment, estimator: Estimator, *, seed: int) -> Tensor:
        """(P, 3) radiance by an estimator with noise, with shadows if there is a tracer."""
        return shade(points, light, estimator, tracer=self.tracer, seed=seed)


class LearnableTextures(nn.Module):
    """One texture of everything that is learned: base colour, roughness, metallic, progress, and the captured look as
    spherical harmonics.

    materials: (H, W, 5) start, 0 to 1.  look: (H, W, 3) start, sRGB-encoded.  progress: start, 0 to 1.
    wrap: see `Texture`.  degree: of the look's harmonics.
    """

    def __init__(self, materials: Tensor, look: Tensor, progress: float, wrap: tuple[str, str], *, degree: int = 1):
        super().__init__()
        self.wrap, self.degree = wrap, degree
        self.materials = nn.Parameter(torch.logit(materials.clamp(0.02, 0.98)))
        self.progress = nn.Parameter(torch.full((*materials.shape[:2], 1), torch.tensor(progress).logit().item()))
        rest = torch.zeros(*look.shape[:2], 3 * (sh.count(degree) - 1))
        self.look = nn.Parameter(torch.cat([sh.from_constant(look), rest], 2))

    def picture(self) -> Tensor:
        """(H, W, 6 + 3 K): base colour, roughness, metallic, progress, harmonics."""
        return torch.cat([self.materials.sigmoid(), self.progress.sigmoid(), self.look], 2)

    def at(self, pixels: Pixels) -> tuple[Surface, Tensor, Tensor]:
        """Surface, (P, 1) progress and (P, 3) captured look, encoded, of some pixels."""
        picture = self.picture()
        lod = level_of_detail(pixels.uv_dx, pixels.uv_dy, picture.shape).clamp_min(LEVEL)
        values = lookup(Pyramid.of(picture), pixels.uv, lod, self.wrap)
        harmonics = values[:, 6:].reshape(len(pixels), -1, 3)
        look = sh.evaluate(harmonics, -pixels.view, self.degree) + 0.5
        return pixels.surface(values[:, :3], values[:, 3], values[:, 4]), values[:, 5:6], look

    def asset(self, mesh: Mesh, texels: Texels, confidence: Tensor, *, occlusion_rays: int, seed: int) -> Mesh:
        """The mesh with what has been learned as its one material; what nobody has seen is completed.

        confidence: (T,) of the texels.  occlusion_rays: a texel, for the occlusion texture if there is none yet.
        """
        with torch.no_grad():
            values = self.materials.sigmoid().flatten(0, 1)[texels.index]
            values = texels.picture(completed(mesh, texels, values, confidence))
        wrap, held = self.wrap, mesh.materials[0] if mesh.materials else Material()
        occlusion = held.occlusion_texture
        if occlusion is None and occlusion_rays:
            baked = bake_occlusion(mesh, texels, rays=occlusion_rays, seed=seed)
            occlusion = Texture(texels.picture(baked[:, None]), wrap)  # type: ignore[arg-type]
        first = torch.ones_like(values[..., :1])
        shared = occlusion is not None and occlusion.image.shape[:2] == values.shape[:2] and occlusion.uv_set == 0
        if occlusion is not None and shared:
            first = occlusion.image[..., :1]
        packed = Texture(torch.cat([first, values[..., 3:5]], 2), wrap)  # type: ignore[arg-type]
        shown = texels.picture(confidence[:, None])[..., 0] * texels.mask
        material = Material(
            name=held.name or "relight",
            base_color_texture=Texture(values[..., :3].contiguous(), wrap, confidence=shown),  # type: ignore[arg-type]
            metallic_roughness_texture=packed,
            normal_texture=held.normal_texture,
            normal_scale=held.normal_scale,
            occlusion_texture=packed if shared else occlusion,
            occlusion_strength=held.occlusion_strength,
            double_sided=held.double_sided,
        )
        return replace(mesh, colors=None, materials=(material,))

    def unevenness(self, mask: Tensor) -> Tensor:
        """Scalar mean |difference| of neighbouring texels' materials: less across edges of the captured look, and only
        within the (H, W) mask of charts."""
        values, guide = self.materials.sigmoid(), sh.to_constant(self.look[..., :3]).detach()
        total = values.new_zeros(())
        for axis in (0, 1):
            n = mask.shape[axis] - 1
            pairs = mask.narrow(axis, 1, n) & mask.narrow(axis, 0, n)
            weight = pairs * torch.exp(-10 * guide.diff(dim=axis).abs().mean(-1))
            total = total + (values.diff(dim=axis).abs() * weight[..., None]).sum() / pairs.sum().clamp_min(1)
        return total


@dataclass(frozen=True)
class Photographed:
    """What photographs say of texels: (T, 3) mean linear radiance, (T,) its standard deviation over views, mean of the
    channels, (T,) confidence."""

    radiance: Tensor
    spread: Tensor
    confidence: Tensor


def photographed(mesh: Mesh, texels: Texels, views: Views, rasterizer: MeshRasterizer) -> Photographed:
    """Of the texels of a mesh, over all views.  Not differentiated."""

    def picture(index: int, camera) -> Tensor:
        photo = views.photo(index)
        alpha = torch.ones_like(photo.rgb[..., 0]) if photo.alpha is None else photo.alpha
        if photo.mask is not None:
            alpha = alpha * photo.mask
        linear = photo.linear()
        return torch.cat([torch.cat([linear, linear * linear], 2) * alpha[..., None], alpha[..., None]], 2)

    cameras = [views.camera(i) for i in range(len(views))]
    values, confidence = average_views(mesh, texels, cameras, rasterizer, picture)
    mean, second = values.split(3, 1)
    return Photographed(mean, (second - mean * mean).clamp_min(0).sqrt().mean(1), confidence)


def to_vertices(mesh: Mesh, texels: Texels, values: Tensor, confidence: Tensor) -> Tensor:
    """(V, C) mean of (T, C) texels around each vertex, those that were seen."""
    corners = mesh.faces.long()[texels.face]
    share = texels.weights.clamp_min(0) * confidence[:, None]
    weight = torch.zeros(len(mesh.vertices)).index_add_(0, corners.flatten(), share.flatten())
    total = torch.zeros(len(mesh.vertices), values.shape[1])
    for i in range(3):
        total.index_add_(0, corners[:, i], values * share[:, i : i + 1])
    return total / weight.clamp_min(1e-8)[:, None]


def glowing(mesh: Mesh, radiance: Tensor) -> Mesh:
    """The bare mesh with (V, 3) linear radiance as colours, as `Proxy` wants it."""
    assert mesh.normals is not None
    ones = torch.ones(len(radiance), 1)
    return replace(
        mesh, uv=None, uv1=None, tangents=None, material_ids=None, materials=(), colors=torch.cat([radiance, ones], 1)
    )


def _interpolated(values: Tensor, mesh: Mesh, face: Tensor, weights: Tensor) -> Tensor:
    return (values[mesh.faces.long()[face.long()]] * weights[..., None]).sum(1)
