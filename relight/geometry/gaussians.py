"""The splat: storage, activations and rigid motion of a set of Gaussians.

Parameters are stored the way they are optimised (logarithms, logits); what they mean is a property of this class
and is computed nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.geometry import sh as _sh
from relight.geometry.transforms import (
    quaternion_from_rotation,
    quaternion_multiply,
    rotation_from_quaternion,
)

# (trailing shape, documented range) of the optional per-Gaussian channels; all linear and activated, as in glTF.
CHANNELS: Mapping[str, tuple[tuple[int, ...], str]] = MappingProxyType(
    {
        "base_color": ((3,), "linear Rec.709, 0 to 1"),
        "roughness": ((), "perceptual, 0 to 1"),
        "metallic": ((), "0 to 1"),
        "normal": ((3,), "unit, world frame, outwards"),
        "progress": ((), "share of physically based colour, 0 to 1"),
    }
)


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians.

    means: (N, 3) world units.
    quats_wxyz: (N, 4) world_from_local rotation, any non-zero length.
    log_scales: (N, 3) natural logarithm of the standard deviation along each local axis, world units.
        For surfels the third is ignored.
    logit_opacity: (N,).
    sh: (N, K, 3), K = 1, 4, 9 or 16: the captured look.  Display-referred (sRGB-encoded), because that is what
        every splat file and viewer means by it; everything else in this project is linear.
    channels: further named per-Gaussian values, (N, ...); names in `CHANNELS` have the meaning given there,
        `feature` is (N, F) of any F, float16: `Scene.feature_basis` says what it means.
    filter_3d: (N,) standard deviation in world units of Mip-Splatting's 3D smoothing filter (Yu et al., CVPR 2024,
        eq. 9), or None for no filter.
    surfels: the primitive is a 2D Gaussian disc (Huang et al., 2DGS, SIGGRAPH 2024) instead of an ellipsoid.
    antialiased: drawn with opacity scaled by sqrt(det S / det(S + low_pass I)), S the screen covariance, so that the
        screen-space filter keeps the total weight (Mip-Splatting, eq. 10).  Ellipsoids only.  A property of the splat:
        one fitted with it looks wrong without.
    """

    means: Tensor
    quats_wxyz: Tensor
    log_scales: Tensor
    logit_opacity: Tensor
    sh: Tensor
    channels: Mapping[str, Tensor] = field(default_factory=dict)
    filter_3d: Tensor | None = None
    surfels: bool = False
    antialiased: bool = False

    def __post_init__(self) -> None:
        n = self.means.shape[0]
        expected = {
            "means": (n, 3), "quats_wxyz": (n, 4), "log_scales": (n, 3), "logit_opacity": (n,),
        }  # fmt: skip
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ShapeError.expected(f"Gaussians.{name}", str(shape), tuple(getattr(self, name).shape))
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[1] not in (1, 4, 9, 16) or self.sh.shape[2] != 3:
            raise ShapeError.expected("Gaussians.sh", f"({n}, 1 | 4 | 9 | 16, 3)", tuple(self.sh.shape))
        for name, value in self.channels.items():
            trailing = CHANNELS[name][0] if name in CHANNELS else tuple(value.shape[1:])
            if tuple(value.shape) != (n, *trailing):
                raise ShapeError.expected(f"Gaussians.channels[{name!r}]", str((n, *trailing)), tuple(value.shape))
        if self.filter_3d is not None and tuple(self.filter_3d.shape) != (n,):
            raise ShapeError.expected("Gaussians.filter_3d", str((n,)), tuple(self.filter_3d.shape))

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    @property
    def scales(self) -> Tensor:
        """(N, 3) standard deviations in world units, with the 3D filter applied."""
        scales = self.log_scales.exp()
        if self.filter_3d is None:
            return scales
        return torch.sqrt(scales * scales + self.filter_3d[:, None] ** 2)

    @property
    def opacities(self) -> Tensor:
        """(N,) in 0 to 1; the 3D filter lowers it so that the Gaussian keeps its total weight."""
        opacity = torch.sigmoid(self.logit_opacity)
        if self.filter_3d is None:
            return opacity
        axes = 2 if self.surfels else 3
        return opacity * (self.log_scales.exp() / self.scales)[:, :axes].prod(-1)

    @property
    def rotations(self) -> Tensor:
        """(N, 3, 3) world_from_local."""
        return rotation_from_quaternion(self.quats_wxyz)

    @property
    def covariances(self) -> Tensor:
        """(N, 3, 3) world frame, squared world units."""
        m = self.rotations * self.scales[:, None, :]
        return m @ m.mT

    def normals(self, eye: Tensor) -> Tensor:
        """(N, 3) unit, world frame: the shortest axis (third axis of a surfel), flipped to face `eye` (3,).

        Differentiable in the rotation; the choice of axis and the flip are not differentiated.
        """
        if self.surfels:
            normals = self.rotations[..., 2]
        else:
            shortest = self.log_scales.detach().argmin(-1)
            normals = torch.take_along_dim(self.rotations, shortest[:, None, None], -1).squeeze(-1)
        away = ((normals * (eye - self.means)).sum(-1, keepdim=True) < 0).detach()
        return torch.where(away, -normals, normals)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name (`channels.NAME` for channels): what is saved, moved and indexed."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return out | {f"channels.{name}": value for name, value in self.channels.items()}

    @property
    def flags(self) -> dict[str, bool]:
        """What `tensors` does not hold."""
        return {"surfels": self.surfels, "antialiased": self.antialiased}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], **flags: bool) -> Gaussians:
        """Inverse of `tensors`, with `flags`."""
        own = {k: v for k, v in tensors.items() if not k.startswith("channels.")}
        channels = {k.removeprefix("channels."): v for k, v in tensors.items() if k.startswith("channels.")}
        return Gaussians(**own, channels=channels, **flags)  # type: ignore[arg-type]

    def map(self, function) -> Gaussians:
        """Apply `function` to every tensor."""
        return Gaussians.from_tensors({k: function(v) for k, v in self.tensors().items()}, **self.flags)

    def __getitem__(self, index) -> Gaussians:
        """A subset, by mask, slice or index tensor."""
        return self.map(lambda t: t[index])

    def to(self, device: str | torch.device) -> Gaussians:
        return self.map(lambda t: t.to(device))

    def detach(self) -> Gaussians:
        return self.map(torch.Tensor.detach)

    def transformed(self, rotation: Tensor, translation: Tensor, scale: float = 1.0) -> Gaussians:
        """The splat after x -> scale * rotation @ x + translation, spherical harmonics and normals included.

        rotation: (3, 3).  translation: (3,) world units.  scale: positive.
        """
        quats = quaternion_multiply(quaternion_from_rotation(rotation), self.quats_wxyz)
        channels = dict(self.channels)
        if "normal" in channels:
            channels["normal"] = channels["normal"] @ rotation.mT
        return replace(
            self,
            means=scale * self.means @ rotation.mT + translation,
            quats_wxyz=quats,
            log_scales=self.log_scales + torch.tensor(scale, dtype=self.log_scales.dtype).log(),
            sh=_sh.rotate(self.sh, rotation),
            channels=channels,
            filter_3d=None if self.filter_3d is None else self.filter_3d * scale,
        )
