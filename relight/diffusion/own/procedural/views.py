"""Pictures of procedural scenes without their light: what is seen in every pixel, and which way the sky is open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor

from relight.atomic import replacing
from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.shapes import Solids, solids
from relight.diffusion.own.procedural.textures import WORDS, material
from relight.diffusion.pictures.hints import DIRECTIONS, sky
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.render.tracing import MeshTracer, create_tracer
from relight.shading.color import linear_to_srgb
from relight.vectors import unit

MOST_WORDS = 6


@dataclass(frozen=True)
class Views:
    """V views of size x size pixels; small types, since there are many.

    base_color: (V, S, S, 3) uint8, sRGB-encoded.  roughness, metallic: (V, S, S) uint8.
    normal: (V, S, S, 3) float16 unit, world, towards the eye.  depth: (V, S, S) float16 world units along the view's
    axis; 0 where nothing is seen.  open: (V, S, S) int64, bit i says that `sky(DIRECTIONS)[i]` is unobstructed.
    rotation: (V, 3, 3) world_from_camera's.  focal: (V,) pixels.
    words: (V, MOST_WORDS) int16 into `WORDS`, of the solid in the middle; -1 for none.
    """

    base_color: Tensor
    roughness: Tensor
    metallic: Tensor
    normal: Tensor
    depth: Tensor
    open: Tensor
    rotation: Tensor
    focal: Tensor
    words: Tensor

    def __len__(self) -> int:
        return len(self.focal)

    def __getitem__(self, index) -> Views:
        """Some of them, by slice, mask or index."""
        return Views(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def drawn(self, count: int, generator: Generator) -> Views:
        """So many of them at random, the same one more than once if it falls so."""
        return self[torch.randint(len(self), (count,), generator=generator)]

    @staticmethod
    def joined(parts: list[Views]) -> Views:
        """One after another."""
        return Views(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Views)})

    def thinned(self, every: int) -> Views:
        """Only every so many rows and columns: smaller views of the same."""
        own = {name: getattr(self, name) for name in ("rotation", "words")}
        rest = {
            f.name: getattr(self, f.name)[:, ::every, ::every] for f in fields(self) if f.name not in {*own, "focal"}
        }
        return Views(**rest, **own, focal=self.focal / every)

    def to(self, device: str | torch.device) -> Views:
        """On another device."""
        return Views(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def save(self, path: Path) -> None:
        """As safetensors."""
        tensors: Mapping[str, Tensor] = {f.name: getattr(self, f.name).contiguous() for f in fields(self)}
        with replacing(path) as part:
            save_file(dict(tensors), part)

    @staticmethod
    def load(path: Path) -> Views:
        """Inverse of `save`."""
        with safe_open(path, "pt") as file:
            return Views(**{f.name: file.get_tensor(f.name) for f in fields(Views)})


def draw(count: int, size: int, seed: int, *, workers: int = 1) -> Views:
    """`count` views, each of a scene of its own; the same for the same seed, however many processes share the work."""
    seeds = [seed * 1_000_003 + i for i in range(count)]
    if workers == 1:
        return Views.joined([view(s, size) for s in seeds])
    with ProcessPoolExecutor(workers) as pool:
        return Views.joined(list(pool.map(view, seeds, [size] * count, chunksize=16)))


def view(seed: int, size: int) -> Views:
    """One view: a swatch seen from the front in one of eight, else a scene of solids."""
    draw = Draw(Generator().manual_seed(seed))
    return _swatch(draw, size) if draw.chance(0.125) else look(solids(draw), draw, size)


@dataclass(frozen=True)
class Hits:
    """What a camera sees of solids, at those of its size x size pixels that see any.

    pixel: (N,) row by row.  position, normal (shading, towards the eye), geometric (towards the eye): (N, 3), world.
    base_color: (N, 3) linear.  roughness, metallic: (N,).  words: of the solid that is seen most.
    """

    pixel: Tensor
    position: Tensor
    normal: Tensor
    geometric: Tensor
    base_color: Tensor
    roughness: Tensor
    metallic: Tensor
    words: tuple[str, ...]


def standpoint(draw: Draw, size: int) -> Camera:
    """A camera that looks at about the origin from a random side at or above its height."""
    eye = draw.direction()
    eye = unit(torch.stack([eye[0], (0.9 * eye[1].abs() + 0.05), eye[2]]))
    fov = math.radians(draw.number(20, 55))
    target = draw.direction() * 0.15
    away = draw.number(0.75, 1.2) / math.tan(fov / 2)
    pose = look_at(eye * away + target, target, torch.tensor([0.0, 1.0, 0.0]))
    return Camera.from_fov(pose, fov, size, size)


def seen(scene: Solids, camera: Camera, tracer: MeshTracer, draw: Draw) -> Hits:
    """The solids with textures drawn for them: the same ones for the same state of the generator."""
    rays = camera.ray_directions().flatten(0, 1)
    origins = camera.position.expand(len(rays), 3)
    face, weights = tracer.nearest(origins, rays, torch.full((len(rays),), math.inf))
    hit = (face >= 0).nonzero()[:, 0]
    corners = scene.mesh.faces.long()[face[hit]]

    def there(values: Tensor) -> Tensor:
        return torch.einsum("nck,nc->nk", values[corners], weights[hit])

    assert scene.mesh.normals is not None
    position, normal, local = there(scene.mesh.vertices), unit(there(scene.mesh.normals)), there(scene.local)
    facing = (normal * rays[hit]).sum(-1, keepdim=True)
    normal = torch.where(facing > 0, -normal, normal)
    geometric = scene.mesh.face_normals()[face[hit]]
    geometric = geometric * -(geometric * rays[hit]).sum(-1, keepdim=True).sign()
    part = scene.part[face[hit]]
    color, rough, metal = torch.zeros(len(hit), 3), torch.zeros(len(hit)), torch.zeros(len(hit))
    words: dict[int, tuple[str, ...]] = {}
    for number in range(int(scene.part.max()) + 1):
        where = part == number
        made = material(local[where], draw)
        color[where], rough[where], metal[where] = made.base_color, made.roughness, made.metallic
        words[number] = made.words
    middle = int(part.bincount().argmax()) if len(hit) else 0
    return Hits(hit, position, normal, geometric, color, rough, metal, words[middle])


def look(scene: Solids, draw: Draw, size: int) -> Views:
    """Solids with textures drawn for them, from a random side at or above their own height."""
    camera = standpoint(draw, size)
    tracer = create_tracer(scene.mesh)
    assert isinstance(tracer, MeshTracer)
    there = seen(scene, camera, tracer, draw)
    directions = sky()
    above = (there.geometric @ directions.mT) > 0
    pixel, way = above.nonzero().unbind(1)
    free = above.clone()
    free[pixel, way] = ~tracer.occluded(there.position[pixel], directions[way], torch.full((len(pixel),), 1e6))
    bits = (free.long() << torch.arange(DIRECTIONS)).sum(1)
    depth = (there.position - camera.position) @ camera.forward

    def spread(values: Tensor) -> Tensor:
        blank = values.new_zeros(size * size, *values.shape[1:])
        return blank.index_copy(0, there.pixel, values).view(1, size, size, *values.shape[1:])

    return Views(
        spread(_encoded(there.base_color)), spread(_byte(there.roughness)), spread(_byte(there.metallic)),
        spread(there.normal.half()), spread(depth.half()), spread(bits),
        camera.world_from_camera[None, :3, :3], torch.tensor([camera.fx]), _indices(there.words)[None],
    )  # fmt: skip


def _swatch(draw: Draw, size: int) -> Views:
    """A flat piece of one material that fills the picture, under an open half of the sky, seen from straight ahead."""
    line = torch.linspace(-1, 1, size) * draw.number(0.5, 1.2)
    y, x = torch.meshgrid(line, line, indexing="ij")
    made = material(torch.stack([x, -y, torch.full_like(x, 0.37)], -1).reshape(-1, 3), draw)
    towards = unit(torch.tensor([0.0, draw.number(0.0, 1.0), draw.number(0.3, 1.0)]))
    pose = look_at(towards * 3, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    bits = ((sky() @ towards > 0).long() << torch.arange(DIRECTIONS)).sum()
    shape = (1, size, size)
    return Views(
        _encoded(made.base_color).view(*shape, 3), _byte(made.roughness).view(shape), _byte(made.metallic).view(shape),
        towards.half().expand(*shape, 3), torch.full(shape, 3.0).half(), bits.expand(shape).clone(),
        pose[None, :3, :3], torch.tensor([3.0 * size]), _indices(made.words)[None],
    )  # fmt: skip


def _encoded(linear: Tensor) -> Tensor:
    return _byte(linear_to_srgb(linear))


def _byte(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _indices(words: tuple[str, ...]) -> Tensor:
    found = [WORDS.index(w) for w in words[:MOST_WORDS]]
    return torch.tensor(found + [-1] * (MOST_WORDS - len(found)), dtype=torch.int16)
