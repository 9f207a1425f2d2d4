"""What a mesh's faces are made of: glTF 2.0 metallic-roughness, factors times textures, all linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

from relight.errors import ShapeError

Wrap = Literal["repeat", "clamp", "mirror"]
AlphaMode = Literal["opaque", "mask", "blend"]


@dataclass(frozen=True)
class Texture:
    """A picture on a surface and how it is looked up.

    image: (H, W, C) float; colour is linear (sRGB files are decoded on load).  May require grad.
    wrap: along u and v, outside 0 to 1.
    nearest: no interpolation between texels and no mips, as pixel art wants it.
    uv_set: which of the mesh's texture coordinates, 0 or 1.
    transform: ((a, b, c), (d, e, f)): (u, v) becomes (a u + b v + c, d u + e v + f) before the lookup
        (KHR_texture_transform); None for the identity.
    confidence: (H, W) 0 to 1, how much photographs told of each texel; None if it is not known.  Never looked up.

    Texture coordinates are glTF's: (0, 0) is the corner of the first texel of the first row, v grows downwards.
    """

    image: Tensor
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    nearest: bool = False
    uv_set: int = 0
    transform: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    confidence: Tensor | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or 0 in self.image.shape:
            raise ShapeError.expected("Texture.image", "(H, W, C), none of them 0", tuple(self.image.shape))

    def coordinates(self, uv: Tensor) -> Tensor:
        """(..., 2) coordinates of the mesh to those of the picture."""
        if self.transform is None:
            return uv
        matrix = uv.new_tensor(self.transform)
        return uv @ matrix[:, :2].mT + matrix[:, 2]

    def derivatives(self, d_uv: Tensor) -> Tensor:
        """(..., 2) derivatives of the mesh's coordinates to those of the picture's."""
        return d_uv if self.transform is None else d_uv @ d_uv.new_tensor(self.transform)[:, :2].mT


def _factor(*values: float):
    return field(default_factory=lambda: torch.tensor(values[0] if len(values) == 1 else values))


@dataclass(frozen=True)
class Material:
    """glTF 2.0 material.  Factors are float tensors and may require grad; each texture multiplies its factor.

    base_color: (4,) linear RGB and alpha, 0 to 1; its texture has 3 or 4 channels.
    metallic, roughness: () 0 to 1, roughness perceptual; their texture has roughness in channel 1, metallic in 2.
    normal_texture: tangent space, 0 to 1 means -1 to 1; normal_scale multiplies its x and y.
    occlusion_texture: channel 0; 1 + occlusion_strength (texture - 1) is the share of ambient light that arrives.
    emissive: (3,) linear radiance, at least 0 (KHR_materials_emissive_strength is multiplied in).
    alpha_mode: "opaque" ignores alpha, "mask" keeps what reaches alpha_cutoff, "blend" composites.
    double_sided: back faces are drawn, with the normal turned.
    unlit: base colour is emitted instead of reflected (KHR_materials_unlit).
    ior: index of refraction of the dielectric (KHR_materials_ior).
    specular: () 0 to 1, specular_color: (3,) linear, at least 0: scale the dielectric reflection
        (KHR_materials_specular); textures: channel 3, channels 0 to 2.
    """

    name: str = ""
    base_color: Tensor = _factor(1.0, 1.0, 1.0, 1.0)
    base_color_texture: Texture | None = None
    metallic: Tensor = _factor(1.0)
    roughness: Tensor = _factor(1.0)
    metallic_roughness_texture: Texture | None = None
    normal_texture: Texture | None = None
    normal_scale: float = 1.0
    occlusion_texture: Texture | None = None
    occlusion_strength: float = 1.0
    emissive: Tensor = _factor(0.0, 0.0, 0.0)
    emissive_texture: Texture | None = None
    alpha_mode: AlphaMode = "opaque"
    alpha_cutoff: float = 0.5
    double_sided: bool = False
    unlit: bool = False
    ior: float = 1.5
    specular: Tensor = _factor(1.0)
    specular_texture: Texture | None = None
    specular_color: Tensor = _factor(1.0, 1.0, 1.0)
    specular_color_texture: Texture | None = None

    @property
    def textures(self) -> dict[str, Texture]:
        """The textures there are, by field name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Texture)}


def packed(materials: Sequence[Material]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Materials for storing: pictures by name, each once however many textures show it; the rest as JSON values."""
    names: dict[int, str] = {}
    images: dict[str, Tensor] = {}

    def named(image: Tensor | None) -> str | None:
        if image is None:
            return None
        name = names.setdefault(id(image), f"images.{len(names)}")
        images[name] = image
        return name

    def value(found: Any) -> Any:
        if isinstance(found, Texture):
            own = {f.name: getattr(found, f.name) for f in fields(Texture)}
            return own | {name: named(own[name]) for name in _IMAGES}
        return found.detach().tolist() if isinstance(found, Tensor) else found

    described = [{f.name: value(getattr(m, f.name)) for f in fields(Material)} for m in materials]
    return images, described


def unpacked(images: Mapping[str, Tensor], described: Sequence[Mapping[str, Any]]) -> tuple[Material, ...]:
    """Inverse of `packed`."""

    def value(name: str, stored: Any) -> Any:
        if name.endswith("_texture") and stored is not None:
            found = {i: None if stored[i] is None else images[stored[i]] for i in _IMAGES}
            transform = stored["transform"]
            rows = None if transform is None else (tuple(transform[0]), tuple(transform[1]))
            return Texture(**{**stored, **found, "wrap": tuple(stored["wrap"]), "transform": rows})
        return torch.tensor(stored) if name in _FACTORS else stored

    return tuple(Material(**{name: value(name, stored) for name, stored in m.items()}) for m in described)


_IMAGES = ("image", "confidence")
_FACTORS = ("base_color", "metallic", "roughness", "emissive", "specular", "specular_color")
