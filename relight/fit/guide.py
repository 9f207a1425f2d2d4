"""Textures of a mesh under a diffusion prior: small pictures of them, from random sides, pulled to what it expects.

    guide = MaterialGuide(prior, ScoreOptions(), mesh, sides, generator)
    loss = guide.loss(textures, light, shading, progress)

The prior sees materials and not light, so no light can be painted into them; photographs and the light found so far
only tell it more (MaterialFusion, arXiv 2409.15273).  `ShadedGuide` asks a prior of pictures under a light that it is
told (DreamMat, arXiv 2405.17176).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn.functional import adaptive_avg_pool2d

from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.frames import Light
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.pictures.hints import closeness, radiance_hints, shown
from relight.diffusion.pictures.patches import along, apart, lines
from relight.diffusion.protocol import Condition
from relight.diffusion.score.distillation import Score, ScoreDistillation
from relight.diffusion.score.options import ScoreOptions
from relight.fit.textures import LearnableTextures, Pixels, Shading
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.geometry.transforms import look_at
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.meshes import Visible
from relight.render.transfer import Shadowed
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade
from relight.shading.surface import Surface
from relight.vectors import unit
from relight.views import Views

FILL = 0.85
"""Share of the picture's side that a mesh seen from a random side takes."""
ZOOM = 3.0
"""Most that a photograph is enlarged: small priors know things that fill their pictures, and details only near by."""
METERED = 0.4
"""Mean radiance of a white matte surface in pictures under a random light."""


@dataclass(frozen=True)
class Side:
    """camera: of size x size pixels.  photo: (3, size, size) sRGB-encoded, 0 to 1, or None."""

    camera: Camera
    photo: Tensor | None = None


Sides = Callable[[Generator], Side]
"""Draws where to look from."""


def around(mesh: Mesh, size: int, up: Tensor | None = None) -> Sides:
    """From anywhere about the mesh, seldom from below.  up: (3,) unit; None for +y."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    middle, radius = (low + high) / 2, float((high - low).norm()) / 2
    upwards = torch.tensor([0.0, 1.0, 0.0]) if up is None else up

    def draw(generator: Generator) -> Side:
        away = unit(torch.randn(3, generator=generator))
        height = float(away @ upwards)
        away = unit(away + upwards * (abs(height) * 0.7 + 0.1 - height))
        fov = math.radians(30)
        zoom = 1 + (ZOOM - 1) * float(torch.rand((), generator=generator)) ** 2
        at = middle + (1 - 1 / zoom) * radius * 0.7 * unit(torch.randn(3, generator=generator))
        eye = at + away * radius / (FILL * math.tan(fov / 2)) / zoom + away * radius * (1 - 1 / zoom)
        return Side(Camera.from_fov(look_at(eye, at, upwards), fov, size, size))

    return draw


def photographs(mesh: Mesh, views: Views, size: int) -> Sides:
    """Squares of the photographs about the mesh, from all of it to a third of that."""

    def draw(generator: Generator) -> Side:
        index = int(torch.randint(len(views), (), generator=generator))
        camera, photo = views.camera(index), views.photo(index)
        pixels = camera.project(mesh.vertices)[0]
        seen = pixels[(pixels >= 0).all(1) & (pixels < torch.tensor([camera.width, camera.height])).all(1)]
        low, high = (seen.amin(0), seen.amax(0)) if len(seen) else (torch.zeros(2), torch.tensor(photo.rgb.shape[:2]))
        whole = float((high - low).max()) / FILL
        zoom = ZOOM ** float(torch.rand((), generator=generator))
        side = round(min(whole / zoom, camera.width, camera.height))
        side = max(side, min(size, camera.width, camera.height))
        room = torch.tensor([camera.width - side, camera.height - side])
        slack = (high - low - side).clamp_min(0) / 2
        corner = (low + high - side) / 2 + slack * (2 * torch.rand(2, generator=generator) - 1)
        left, top = (int(v) for v in corner.round().long().clamp_min(0).minimum(room))
        part = photo.rgb[top : top + side, left : left + side].permute(2, 0, 1)
        scale = size / side
        small = replace(
            camera, fx=camera.fx * scale, fy=camera.fy * scale, cx=(camera.cx - left) * scale,
            cy=(camera.cy - top) * scale, width=size, height=size,
        )  # fmt: skip
        return Side(small, adaptive_avg_pool2d(part[None], size)[0])

    return draw


@dataclass(frozen=True)
class Look:
    """A mesh from one side: its pixels, their surface with the materials of now, and what of it a prior is told."""

    seen: Visible
    pixels: Pixels
    points: Surface
    told: Mapping[str, Tensor]

    @property
    def mask(self) -> Tensor:
        """(1, 1, H, W), 0 or 1."""
        return self.told["mask"]

    def picture(self, values: Tensor) -> Tensor:
        """(1, C, H, W) of (N, C) values of the pixels; 0 elsewhere."""
        return self.seen.spread(values).permute(2, 0, 1)[None]

    def arriving(self, shading: Shading, light: Environment) -> Environment | Shadowed:
        """The light as its points get it."""
        return shading.arriving(self.pixels, self.points, light, rays=2, seed=0)


class Guide:
    """A prior that is asked about small pictures of a mesh, from random sides.

    words: what it should be, of the prior's vocabulary.  Raises PriorError for words that it doesn't know.
    """

    def __init__(
        self, prior: Prior, options: ScoreOptions, mesh: Mesh, rasterizer: MeshRasterizer, sides: Sides,
        generator: Generator, words: tuple[str, ...] = (),
    ):  # fmt: skip
        self.mesh, self.rasterizer, self.sides, self.generator = mesh, rasterizer, sides, generator
        self.score = ScoreDistillation(prior, options, generator)
        self.tokens = prior.tokens(words) if words else None

    def scored(self, look: Look, picture: Tensor, told: Mapping[str, Tensor], progress: float) -> Score:
        """Of a (1, C, H, W) picture of the look; told: more than the look itself tells."""
        told = {**look.told, **told}
        return self.score(picture, progress, Condition(condition_maps(**told), self.tokens), mask=look.mask)


class MaterialGuide(Guide):
    """The loss of a mesh's materials over a prior of the task "material"."""

    def loss(self, textures: LearnableTextures, light: Environment | None, shading: Shading, progress: float) -> Score:
        """Differentiable in the textures' materials.  light: found so far, for hints; None for none."""
        side = self.sides(self.generator)
        look = looked(self.mesh, side.camera, self.rasterizer, textures)
        if not len(look.pixels):
            return nothing(textures)
        told = {} if side.photo is None else {"photo": side.photo[None]}
        if light is not None:
            told["hints"] = hints(look, look.arriving(shading, light), 1.0)
        return self.scored(look, material_picture(look), told, progress)


class ShadedGuide(Guide):
    """The loss of pictures of a mesh, in another light at each call, over a prior of the task "relight".

    lights: draws them.  tells: whether the prior is told the light, by radiance hints; otherwise what it expects may
    hold any light, and ends up in the materials.
    """

    def __init__(
        self, prior: Prior, options: ScoreOptions, mesh: Mesh, rasterizer: MeshRasterizer, sides: Sides,
        generator: Generator, lights: Light, words: tuple[str, ...] = (), tells: bool = True,
    ):  # fmt: skip
        super().__init__(prior, options, mesh, rasterizer, sides, generator, words)
        self.lights, self.tells = lights, tells

    def loss(self, textures: LearnableTextures, shading: Shading, progress: float) -> Score:
        """Differentiable in the textures' materials."""
        light = self.lights(self.generator)
        look = looked(self.mesh, self.sides(self.generator).camera, self.rasterizer, textures)
        if not len(look.pixels):
            return nothing(textures)
        arriving = look.arriving(shading, light)
        with torch.no_grad():
            matte = arriving.irradiance(look.points.normal)
            exposure = METERED / float(matte.mean().clamp_min(1e-6))
        radiance = shade(look.points, arriving, SplitSum()) * exposure
        told = {"hints": hints(look, arriving, exposure)} if self.tells else {}
        return self.scored(look, 2 * look.picture(linear_to_srgb(radiance.clamp(0, 1))) - 1, told, progress)


class PatchGuide:
    """How unlike an example's the patches are that small pictures of a mesh's materials have, from random sides.

    example: (1, 5, H, W), 0 to 1, base colour sRGB-encoded, roughness, metallic, at the scale of the pictures.
    """

    directions = 48

    def __init__(self, example: Tensor, mesh: Mesh, rasterizer: MeshRasterizer, sides: Sides, generator: Generator):
        self.example, self.mesh, self.rasterizer, self.sides, self.generator = (
            example, mesh, rasterizer, sides, generator,
        )  # fmt: skip

    def loss(self, textures: LearnableTextures) -> Tensor:
        """Differentiable in the textures' materials."""
        look = looked(self.mesh, self.sides(self.generator).camera, self.rasterizer, textures)
        drawn = lines(self.example.shape[1], self.directions, self.generator)
        found = along(material_picture(look) * 0.5 + 0.5, drawn, look.seen.mask)
        return textures.materials.sum() * 0 if not found.numel() else apart(found, along(self.example, drawn))


def nothing(textures: LearnableTextures) -> Score:
    """Of a side that doesn't show the mesh."""
    return Score(textures.materials.sum() * 0, torch.zeros(0), torch.zeros(0), torch.zeros(0))


def looked(mesh: Mesh, camera: Camera, rasterizer: MeshRasterizer, textures: LearnableTextures) -> Look:
    """The mesh with its textures of now from one side."""
    seen, pixels = Pixels.seen(mesh, camera, rasterizer)
    normal = seen.spread(pixels.normal @ camera.world_from_camera[:3, :3])
    told = {
        "mask": seen.mask[None, None].float(),
        "normal": normal.permute(2, 0, 1)[None],
        "depth": closeness(seen.fragments.depth.detach(), seen.mask)[None, None],
    }
    return Look(seen, pixels, textures.at(pixels)[0], told)


def material_picture(look: Look) -> Tensor:
    """(1, 5, H, W), -1 to 1, 0 where nothing is: as a prior of the task "material" has them."""
    points = look.points
    values = torch.cat([linear_to_srgb(points.base_color), points.roughness[:, None], points.metallic[:, None]], 1)
    return look.picture(2 * values - 1)


@torch.no_grad()
def hints(look: Look, arriving: Environment | Shadowed, exposure: float) -> Tensor:
    """(1, 12, H, W) radiance hints of the shape under the light that its points get."""
    return look.picture(torch.cat([shown(h, exposure) for h in radiance_hints(look.points, [arriving])], 1))
