"""Meshes with glTF materials to surfaces that can be shaded, and to pictures, over any backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import TINY, Mesh
from relight.render.backends import MESH_BACKENDS, first_usable
from relight.render.fragments import weighted_corners
from relight.render.mesh_protocol import DEFAULT_NEAR, Fragments, MeshRasterizer
from relight.render.textures import sample
from relight.shading.surface import Surface, dot
from relight.vectors import unit

MOST_HOLES = 8
"""Faces with masked alpha that are looked through at one pixel."""


def available_mesh_backends() -> dict[str, str | None]:
    """Every mesh backend by name, with the reason why it can't run here, or None if it can."""
    return {backend.name: backend.unavailable() for backend in MESH_BACKENDS}


def create_mesh_rasterizer(name: str = "auto", device: str | torch.device = "cpu") -> MeshRasterizer:
    """A backend by name; "auto" takes the first usable one made for the device.  Raises BackendUnavailableError."""
    kind = torch.device(device).type
    candidates = [b for b in MESH_BACKENDS if b.name == name or (name == "auto" and b.device == kind)]
    return first_usable(candidates, "mesh backend", name, kind, (b.name for b in MESH_BACKENDS)).create()


@dataclass(frozen=True)
class Visible:
    """What a camera sees of a mesh: only the pixels where there is something.

    surface: (N,) points, ready for `shade`.  alpha: (N,) opacity, 1 unless the material blends.
    fragments: of the whole picture, face indices those of the mesh.
    """

    surface: Surface
    alpha: Tensor
    fragments: Fragments

    @property
    def mask(self) -> Tensor:
        """(H, W) bool; its True pixels, row by row, are the N points."""
        return self.fragments.mask

    def spread(self, values: Tensor, background: float = 0.0) -> Tensor:
        """(N, C) values of the points to a picture (H, W, C).  Differentiable."""
        mask = self.mask
        picture = values.new_full((mask.numel(), values.shape[1]), background)
        return picture.index_copy(0, mask.flatten().nonzero()[:, 0], values).view(*mask.shape, values.shape[1])

    @property
    def depth(self) -> Tensor:
        """(H, W) world units along +z, infinite where nothing is seen: `behind` of the next layer.  No gradient."""
        depth = self.fragments.depth.detach()
        return torch.where(self.mask, depth, torch.full_like(depth, torch.inf))


def surface(
    mesh: Mesh,
    camera: Camera,
    rasterizer: MeshRasterizer,
    *,
    near: float = DEFAULT_NEAR,
    behind: Tensor | None = None,
    cull: bool = True,
) -> Visible:
    """The nearest surface at every pixel centre: materials looked up with mips, normals mapped.

    near: world units.  behind: (H, W) world units; only what is farther (peeling).
    cull: faces of single-sided materials are not drawn from behind (glTF); otherwise they are, with normals turned.
    Masked alpha is looked through, at most MOST_HOLES deep.  Differentiable in the mesh's and materials' tensors and
    the camera's pose; at silhouettes through `MeshRasterizer.antialias`.
    """
    kept = _drawn_faces(mesh, camera, cull)
    faces = mesh.faces if kept is None else mesh.faces[kept]
    found = rasterizer.rasterize(mesh.vertices, faces, camera, near=near, behind=behind)
    fragments = found if kept is None else _renumbered(found, kept)
    points, alpha = _of_fragments(mesh, fragments, camera)
    for _ in range(MOST_HOLES if any(m.alpha_mode == "mask" for m in mesh.materials) else 0):
        holes = torch.zeros_like(fragments.mask)
        holes[fragments.mask] = alpha == 0
        if not bool(holes.any()):
            break
        start = torch.zeros_like(fragments.depth.detach()) if behind is None else behind
        behind = torch.where(holes, fragments.depth.detach(), start)
        found = rasterizer.rasterize(mesh.vertices, faces, camera, near=near, behind=behind)
        fragments = _renumbered(found, kept) if kept is not None else found
        points, alpha = _of_fragments(mesh, fragments, camera)
    return Visible(points, alpha, fragments)


def render(
    mesh: Mesh,
    camera: Camera,
    rasterizer: MeshRasterizer,
    shade: Callable[[Surface], Tensor],
    *,
    near: float = DEFAULT_NEAR,
    cull: bool = True,
    supersample: int = 1,
    layers: int = 4,
) -> Tensor:
    """(H, W, 4) linear radiance, premultiplied, and alpha; silhouettes antialiased.

    shade: (N,) surface to (N, 3) radiance.  supersample: shades that many pixels along each axis of each pixel.
    layers: blending surfaces seen behind one another, at most; the last one counts as opaque to what is behind it.
    """
    if supersample > 1:
        fine = camera.resized(camera.width * supersample, camera.height * supersample)
        picture = render(mesh, fine, rasterizer, shade, near=near, cull=cull, layers=layers)
        return torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1)[None], supersample)[0].permute(1, 2, 0)
    blends = any(m.alpha_mode == "blend" for m in mesh.materials)
    total = mesh.vertices.new_zeros(camera.height, camera.width, 4)
    behind = None
    for _ in range(layers if blends else 1):
        seen = surface(mesh, camera, rasterizer, near=near, behind=behind, cull=cull)
        if not bool(seen.mask.any()):
            break
        alpha = seen.alpha[:, None]
        layer = seen.spread(torch.cat([shade(seen.surface) * alpha, alpha], 1))
        layer = rasterizer.antialias(
            layer, seen.fragments, mesh.vertices, mesh.faces, camera, opposite=mesh.opposite_corners
        )
        total = total + (1 - total[..., 3:]) * layer
        behind = seen.depth
    return total


def surface_at(
    mesh: Mesh,
    face: Tensor,
    barycentrics: Tensor,
    eye: Tensor,
    derivatives: tuple[Tensor, Tensor] | None = None,
) -> tuple[Surface, Tensor]:
    """Surface and alpha, (N,) each, at points on faces: (N,) indices, (N, 3) weights of the corners.

    eye: (3,) or (N, 3) world units, where they are seen from.  derivatives: (N, 3) change of the weights to the next
    pixel right and down; chooses mip levels; None looks textures up in full.  alpha is 0 where a mask cuts it out.
    Normals are turned to the eye's side of the face, as glTF does for double-sided materials.
    """
    faces = mesh.faces
    names = [n for n in ("vertices", "normals", "uv", "uv1", "tangents", "colors") if getattr(mesh, n) is not None]
    attributes = [getattr(mesh, n) for n in names]
    packed = weighted_corners(torch.cat(attributes, 1), faces, face, barycentrics)
    at = dict(zip(names, packed.split([a.shape[1] for a in attributes], 1), strict=True))
    changes: dict[str, tuple[Tensor, Tensor]] = {}
    if derivatives is not None:
        for name in ("uv", "uv1"):
            values = getattr(mesh, name)
            if values is not None:
                changes[name] = tuple(weighted_corners(values.detach(), faces, face, d) for d in derivatives)  # type: ignore[assignment]
    corners = mesh.vertices.index_select(0, faces[face.long()].long().flatten()).view(-1, 3, 3)
    plane = unit(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), TINY)
    view = unit(eye - at["vertices"])
    turned = torch.where(dot(plane.detach(), view.detach()) < 0, -1.0, 1.0).to(plane)[:, None]
    smooth = at.get("normals", plane)
    ids = mesh.material_ids
    of_point = torch.zeros_like(face, dtype=torch.int64) if ids is None else ids[face.long()].long()
    parts, rows = [], []
    for index in of_point.unique().tolist():
        material = mesh.materials[index] if mesh.materials else Material()
        some = (of_point == index).nonzero()[:, 0]
        lookup = _Lookup(
            {k: v.index_select(0, some) for k, v in at.items()},
            {k: (v[0].index_select(0, some), v[1].index_select(0, some)) for k, v in changes.items()},
        )
        parts.append(_looked_up(material, lookup, smooth.index_select(0, some)))
        rows.append(some)
    if not parts:
        parts, rows = [_looked_up(Material(), _Lookup(at, changes), smooth)], [of_point]
    order = torch.argsort(torch.cat(rows))
    joined = {k: torch.cat([p[k] for p in parts]).index_select(0, order) for k in parts[0]}
    extended = any(m.ior != 1.5 or m.unlit or _is_specular(m) for m in mesh.materials)
    return Surface(
        position=at["vertices"],
        normal=joined["normal"] * turned,
        view=view,
        base_color=joined["base_color"],
        roughness=joined["roughness"],
        metallic=joined["metallic"],
        occlusion=joined["occlusion"],
        emission=joined["emission"],
        geometric_normal=plane * turned,
        ior=joined["ior"] if extended else None,
        specular=joined["specular"] if extended else None,
        specular_color=joined["specular_color"] if extended else None,
    ), joined["alpha"]


@dataclass(frozen=True)
class _Lookup:
    """Interpolated attributes of some points, and how texture coordinates change across a pixel."""

    at: dict[str, Tensor]
    changes: dict[str, tuple[Tensor, Tensor]]

    def __call__(self, texture: Texture | None) -> Tensor | None:
        """(N, C), or None without texture or coordinates for it."""
        name = "uv" if texture is not None and texture.uv_set == 0 else "uv1"
        if texture is None or name not in self.at:
            return None
        uv = self.at[name]
        if texture.image.device != uv.device:
            texture = replace(texture, image=texture.image.to(uv.device))
        return sample(texture, uv, *self.changes.get(name, ()))


def _is_specular(m: Material) -> bool:
    return (
        m.specular_texture is not None
        or m.specular_color_texture is not None
        or m.specular.requires_grad
        or m.specular_color.requires_grad
        or bool((m.specular != 1).any() or (m.specular_color != 1).any())
    )


def _looked_up(m: Material, lookup: _Lookup, smooth: Tensor) -> dict[str, Tensor]:
    """The material's values at some points: (N,) or (N, 3) each."""
    count, device = len(smooth), smooth.device

    def times(factor: Tensor, values: Tensor | None) -> Tensor:
        factor = factor.to(device, smooth.dtype)
        factor = factor.expand(count, *factor.shape)
        return factor if values is None else factor * values

    base, alpha = times(m.base_color[:3], None), times(m.base_color[3], None)
    texels = lookup(m.base_color_texture)
    if texels is not None:
        base = base * texels[:, :3]
        alpha = alpha * texels[:, 3] if texels.shape[1] == 4 else alpha
    if "colors" in lookup.at:
        base, alpha = base * lookup.at["colors"][:, :3], alpha * lookup.at["colors"][:, 3]
    if m.alpha_mode == "mask":
        alpha = (alpha.detach() >= m.alpha_cutoff).to(alpha)
    elif m.alpha_mode == "opaque":
        alpha = torch.ones_like(alpha)
    texels = lookup(m.metallic_roughness_texture)
    metallic = times(m.metallic, None if texels is None else texels[:, 2])
    roughness = times(m.roughness, None if texels is None else texels[:, 1])
    texels = lookup(m.emissive_texture)
    emission = times(m.emissive, None if texels is None else texels[:, :3])
    texels = lookup(m.occlusion_texture)
    shadow = torch.ones_like(alpha) if texels is None else 1 + m.occlusion_strength * (texels[:, 0] - 1)
    texels = lookup(m.specular_texture)
    specular = times(m.specular, None if texels is None else texels[:, 3])
    texels = lookup(m.specular_color_texture)
    tint = times(m.specular_color, None if texels is None else texels[:, :3])
    if m.unlit:
        emission, base = base, torch.zeros_like(base)
        metallic, specular = torch.zeros_like(metallic), torch.zeros_like(specular)
    return {
        "normal": _mapped(m, lookup, smooth),
        "base_color": base,
        "alpha": alpha,
        "metallic": metallic,
        "roughness": roughness,
        "emission": emission,
        "occlusion": shadow,
        "ior": torch.full_like(alpha, m.ior),
        "specular": specular,
        "specular_color": tint,
    }


def _mapped(m: Material, lookup: _Lookup, smooth: Tensor) -> Tensor:
    """Shading normal.  Tangent and normal are interpolated and not normalised again, as MikkTSpace bakes them."""
    texels = lookup(m.normal_texture)
    if texels is None or "tangents" not in lookup.at:
        return unit(smooth)
    tangent = lookup.at["tangents"]
    # w is the same at all corners of a face, so its sign survives interpolation.
    bitangent = torch.linalg.cross(smooth, tangent[:, :3]) * tangent[:, 3:].sign()
    x, y, z = (2 * texels[:, :3] - 1).unbind(-1)
    x, y = x * m.normal_scale, y * m.normal_scale
    return unit(x[:, None] * tangent[:, :3] + y[:, None] * bitangent + z[:, None] * smooth)


def _of_fragments(mesh: Mesh, fragments: Fragments, camera: Camera) -> tuple[Surface, Tensor]:
    index = fragments.mask.flatten().nonzero()[:, 0]

    def rows(values: Tensor) -> Tensor:
        return values.view(-1, 3).index_select(0, index)

    derivatives = (rows(fragments.barycentrics_dx), rows(fragments.barycentrics_dy))
    face = fragments.face.flatten()[index]
    eye = camera.position.to(mesh.vertices.device, mesh.vertices.dtype)
    return surface_at(mesh, face, rows(fragments.barycentrics), eye, derivatives)


def _drawn_faces(mesh: Mesh, camera: Camera, cull: bool) -> Tensor | None:
    """(F',) faces that are drawn; None for all.  Those of single-sided materials seen from behind are not."""
    if not cull or (mesh.materials and all(m.double_sided for m in mesh.materials)):
        return None
    with torch.no_grad():
        a, b, c = (mesh.corner_positions() - camera.position.to(mesh.vertices)).double().unbind(1)
        front = (torch.linalg.cross(b - a, c - a) * a).sum(-1) <= 0
        two_sided = torch.tensor([m.double_sided for m in mesh.materials] or [False], device=front.device)
        ids = mesh.material_ids
        front |= two_sided[0] if ids is None else two_sided[ids.long()]
        return None if bool(front.all()) else front.nonzero()[:, 0]


def _renumbered(fragments: Fragments, kept: Tensor) -> Fragments:
    """Face indices of the culled mesh to those of the whole one."""
    if not len(kept):
        return fragments
    face = torch.where(fragments.mask, kept[fragments.face.clamp_min(0).long()], -1)
    return replace(fragments, face=face.to(torch.int32))
