"""The shape of what a picture shows, from a scene, from maps of normals or depth, or guessed from its outline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from relight.diffusion.pictures.hints import closeness, past, sky
from relight.errors import RelightError, ShapeError
from relight.geometry.camera import Camera
from relight.render.deferred import GBuffer
from relight.render.proxy import Proxy
from relight.resize import resized
from relight.shading.lights import Light
from relight.shading.surface import Surface
from relight.shading.tracing import Tracer
from relight.vectors import unit

FOV = 40.0
"""Degrees, of the longer side, of pictures whose camera isn't known."""
STEPS = 24
"""That a ray takes over a depth map, across one subject's radius; the share of a step that it starts after: LIFT."""
LIFT = 1.0
THICK = 0.8
"""Subject radii that things seen in a depth map are thick."""
LEVEL = ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
"""world_from_camera of a picture without a scene: it looks level at the middle of environment maps, +x; up is +y."""
VIEWER = (1.0, -1.0, -1.0)
"""Camera axes to those of a viewer: +x right, +y up, +z towards the viewer."""


@dataclass(frozen=True)
class Geometry:
    """normal: (H, W, 3) unit, world, towards the eye.  depth: (H, W) world units along the view's axis, above 0.  mask:
    (H, W) bool; elsewhere normals and depth mean nothing.  tracer: what casts shadows; None: what `depth` shows.
    lift: world units above the surface that rays start, beside what a pixel's size demands.

    Raises ShapeError.
    """

    normal: Tensor
    depth: Tensor
    mask: Tensor
    camera: Camera
    tracer: Tracer | None = None
    lift: float = 0.0

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        for name, shape in (("normal", (*size, 3)), ("depth", size), ("mask", size)):
            if tuple(getattr(self, name).shape) != shape:
                raise ShapeError.expected(f"Geometry.{name}", str(shape), tuple(getattr(self, name).shape))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.camera.height, self.camera.width

    def resized(self, height: int, width: int) -> Geometry:
        """By area where smaller; edges of the mask don't mix with what is beside them."""
        if (height, width) == self.size:
            return self
        mask = resized(self.mask[..., None].float(), height, width)
        share = mask.clamp_min(1e-6)
        normal = resized(torch.where(self.mask[..., None], self.normal, 0.0), height, width)
        depth = resized(torch.where(self.mask, self.depth, 0.0)[..., None], height, width) / share
        kept = mask[..., 0] >= 0.5
        depth = torch.where(kept, depth[..., 0], self.depth[self.mask].mean() if bool(self.mask.any()) else 1.0)
        return Geometry(unit(normal), depth, kept, self.camera.resized(width, height), self.tracer, self.lift)

    def cropped(self, top: int, left: int, height: int, width: int) -> Geometry:
        """A part of the picture."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        camera = replace(self.camera, cx=self.camera.cx - left, cy=self.camera.cy - top, width=width, height=height)
        return Geometry(
            self.normal[rows, columns], self.depth[rows, columns], self.mask[rows, columns], camera, self.tracer,
            self.lift,
        )  # fmt: skip

    @property
    def normal_in_camera(self) -> Tensor:
        """(H, W, 3), +x right, +y down, +z forward, 0 outside the mask."""
        turned = self.normal @ self.camera.world_from_camera[:3, :3]
        return torch.where(self.mask[..., None], turned, 0.0)

    @property
    def closeness(self) -> Tensor:
        """(H, W); see `hints.closeness`."""
        return closeness(self.depth, self.mask)

    @cached_property
    def position(self) -> Tensor:
        """(H, W, 3), world."""
        return self.camera.unproject(self.depth)

    @property
    def surface(self) -> Surface:
        """The (N,) points of the mask, row by row; grey and rough, since their material isn't known."""
        normal = self.normal[self.mask]
        view = -self.camera.ray_directions()[self.mask]
        rough = torch.full_like(normal[:, 0], 0.8)
        position = self.position[self.mask]
        if self.tracer is not None:
            # The mean depth of a pixel may lie below the mesh, in the dark.
            up = self.lift + 0.75 * self.depth[self.mask] / min(self.camera.fx, self.camera.fy)
            position = position + up[:, None] * normal
        return Surface(position, normal, view, torch.full_like(normal, 0.5), rough, 0 * rough)

    @cached_property
    def middle(self) -> Tensor:
        """(3,) of the subject, world: the median of its points."""
        return self.position[self.mask].median(0).values

    @cached_property
    def radius(self) -> float:
        """Of the subject, world units: about its middle, all but the farthest tenth."""
        return max(float((self.position[self.mask] - self.middle).norm(dim=1).quantile(0.9)), 1e-6)

    @property
    def world_from_viewer(self) -> Tensor:
        """(3, 3), of a viewer's axes: +x right, +y up, +z towards the viewer."""
        return self.camera.world_from_camera[:3, :3] * self.camera.world_from_camera.new_tensor(VIEWER)

    @cached_property
    def rays(self) -> Tracer:
        """What casts shadows."""
        if self.tracer is not None:
            return self.tracer
        return DepthTracer(self.camera, torch.where(self.mask, self.depth, math.inf), self.radius)

    @cached_property
    def open(self) -> Tensor:
        """(N, DIRECTIONS) 1 where `hints.sky` isn't hidden from a point of the mask, else 0."""
        surface, directions = self.surface, sky().to(self.normal)
        free = surface.normal @ directions.mT > 0
        point, way = free.nonzero().unbind(1)
        far = torch.full((len(point),), math.inf)
        free[point, way] = ~self.rays.occluded(surface.position[point], directions[way], far)
        return free.float()

    def seeing(self, lights: list[Light] | tuple[Light, ...]) -> list[Light]:
        """The lights, with their shadows on this shape where those aren't left to `rays`."""
        return past(lights, self.open)

    def spread(self, values: Tensor, background: float | Tensor = 0.0) -> Tensor:
        """(N, C) values of the mask's points to a picture (H, W, C)."""
        picture = values.new_zeros(*self.mask.shape, values.shape[1]) + background
        picture[self.mask] = values
        return picture


def of_splat(buffer: GBuffer, camera: Camera, proxy: Proxy | None = None) -> Geometry:
    """Of what a camera sees of a splat with materials.  proxy: for shadows of all there is, not only what is seen."""
    normal = buffer.spread(buffer.surface.normal)
    tracer, lift = (None, 0.0) if proxy is None else (proxy.tracer, proxy.lift)
    mask = buffer.mask & (buffer.splat.alpha > 0.5)
    return Geometry(normal, buffer.splat.depth.clamp_min(1e-6), mask, camera, tracer, lift)


class DepthTracer:
    """A `Tracer` of what one depth map shows, by steps along it; things are `THICK` and nothing is outside the picture.

    depth: (H, W) along +z, infinity where nothing is.  radius: of what is shown; both in world units.  Everything
    behind what is seen, and everything beside the picture, casts no shadow.
    """

    def __init__(self, camera: Camera, depth: Tensor, radius: float):
        self.camera, self.depth, self.radius = camera, depth, radius
        self.step = radius / STEPS

    def occluded(self, origins: Tensor, directions: Tensor, far: Tensor) -> Tensor:
        """See `Tracer.occluded`."""
        camera = self.camera
        rotation = camera.world_from_camera[:3, :3]
        here, way = (origins - camera.position) @ rotation, directions @ rotation
        height, width = self.depth.shape
        # A pixel's depth is that of its middle: on slopes the ray has to clear what the pixel covers.
        pixel = here[:, 2] / min(camera.fx, camera.fy)
        start = (LIFT * self.step + 1.5 * pixel)[:, None] * way
        hit, nearest = torch.zeros(len(origins), dtype=torch.bool), self.depth.min()
        left = torch.arange(len(origins))
        for k in range(STEPS):
            # Longer steps farther away, to twice the radius.
            length = self.step * (k + k * k * 0.04)
            place = here + start + length * way
            z = place[:, 2]
            x = (place[:, 0] / z.clamp_min(1e-6) * camera.fx + camera.cx).floor().long()
            y = (place[:, 1] / z.clamp_min(1e-6) * camera.fy + camera.cy).floor().long()
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > 0) & (length < far)
            behind = z - self.depth[y.clamp(0, height - 1), x.clamp(0, width - 1)]
            met = inside & (behind > 0.5 * self.step + pixel) & (behind < THICK * self.radius)
            hit[left[met]] = True
            # What left the picture doesn't return, and nothing is before all that is seen.
            on = inside & ~met & ((z > nearest) | (way[:, 2] > 0))
            left, here, way, start, pixel, far = (values[on] for values in (left, here, way, start, pixel, far))
        return hit

    def trace(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Surface]:
        """A depth map tells shadows only.  Raises RelightError."""
        raise RelightError("a depth map knows no surfaces beside those seen; give a mesh for light that bounces")


def level_camera(height: int, width: int, fov: float = FOV) -> Camera:
    """Of a picture without a scene.  fov: degrees, of the longer side."""
    focal = max(height, width) / (2 * math.tan(math.radians(fov) / 2))
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor(LEVEL)
    return Camera(pose, focal, focal, width / 2, height / 2, width, height)


def from_maps(
    mask: Tensor,
    *,
    normal: Tensor | None = None,
    depth: Tensor | None = None,
    camera: Camera | None = None,
) -> Geometry:
    """From what the user knows; the other is worked out: normals are the depth's slopes, depth their integral.

    normal: (H, W, 3) a viewer's axes (+x right, +y up, +z towards the viewer), about unit.  depth: (H, W) any unit.
    Raises RelightError if neither is given.
    """
    camera = camera or level_camera(*mask.shape)
    away = camera.world_from_camera[:3, :3] * camera.world_from_camera.new_tensor(VIEWER)
    if normal is not None:
        world = unit(normal) @ away.mT
        if depth is None:
            depth = integrated(unit(normal), mask, camera)
    elif depth is not None:
        world = camera.normals(torch.where(mask, depth, depth[mask].max() if bool(mask.any()) else 1.0))
        # The outermost pixels have none.
        inner = world[1:-1, 1:-1].permute(2, 0, 1)[None]
        world = torch.nn.functional.pad(inner, (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    else:
        raise RelightError("geometry: expected normals, depth or both, found neither; let them be estimated instead")
    facing = (world * camera.ray_directions()).sum(-1, keepdim=True)
    world = unit(world - (facing + 0.02).clamp_min(0) * camera.ray_directions())
    return Geometry(world, depth, mask, camera)


def integrated(normal: Tensor, mask: Tensor, camera: Camera) -> Tensor:
    """(H, W) depth, about 1 in the middle, of (H, W, 3) viewer's normals: least squares of slopes, orthographic
    (Frankot and Chellappa, PAMI 1988), with edges of the mask free."""
    z = normal[..., 2].clamp_min(0.15)
    slopes = [torch.where(mask, normal[..., 0] / z, 0.0), torch.where(mask, -normal[..., 1] / z, 0.0)]
    height, width = mask.shape
    # Twice as large and mirrored, so that what comes out needn't meet itself at the picture's ends.
    dx = torch.cat([slopes[0], -slopes[0].flip(1)], 1)
    dx = torch.cat([dx, dx.flip(0)], 0)
    dy = torch.cat([slopes[1], -slopes[1].flip(0)], 0)
    dy = torch.cat([dy, dy.flip(1)], 1)
    u = torch.fft.fftfreq(2 * width)[None] * 2 * math.pi
    v = torch.fft.fftfreq(2 * height)[:, None] * 2 * math.pi
    square = u * u + v * v
    square[0, 0] = 1.0
    spectrum = (-1j * u * torch.fft.fft2(dx) - 1j * v * torch.fft.fft2(dy)) / square
    spectrum[0, 0] = 0
    depth = torch.fft.ifft2(spectrum).real[:height, :width] / camera.fx
    middle = depth[mask].median() if bool(mask.any()) else depth.median()
    return (1 + depth - middle).clamp_min(0.05)


def resized_inside(picture: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(*size, C) of (H, W, C), without what is beside the (H, W) bool mask; about 0 where none of it is."""
    share = mask[..., None].float()
    return resized(picture * share, *size) / resized(share, *size).clamp_min(1e-3)


def flow(one: Geometry, two: Geometry, tolerance: float = 0.01) -> tuple[Tensor, Tensor]:
    """(H, W, 2) where in the picture of `two` (x, y pixels) the points are that `one` shows, and (H, W) bool whether
    `two` shows them, too.  Exact, of a scene that doesn't move.  tolerance: of depth, relative.
    """
    place, depth = two.camera.project(one.position)
    height, width = two.size
    x, y = place[..., 0].floor().long(), place[..., 1].floor().long()
    inside = one.mask & (depth > 0) & (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    there = two.depth[y, x]
    return place, inside & two.mask[y, x] & ((there - depth).abs() < tolerance * depth)


def looked_up(picture: Tensor, place: Tensor) -> Tensor:
    """(H, W, C) bilinear values of a (H, W, C) picture at (H, W, 2) pixels."""
    height, width = picture.shape[:2]
    grid = torch.stack([2 * place[..., 0] / width - 1, 2 * place[..., 1] / height - 1], -1)
    found = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], grid[None], padding_mode="border", align_corners=False
    )
    return found[0].permute(1, 2, 0)
