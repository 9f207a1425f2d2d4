"""Light from all around: an equirectangular map of radiance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.shading.lights import FAR, LightSample
from relight.shading.prefilter import blurred

Z_UP = ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0))
"""env_from_world of a world whose +Z is up and whose maps are looked up at u = atan2(x, y) / 2 pi, v = acos(z) / pi."""
SNAP = 20.0
"""Degrees: cameras tell which way is up about this well, and worlds are nearly always made with an axis upwards."""
WORKED_OUT = ("cells", "_irradiance", "prefiltered")
"""What an `Environment` works out from its map alone, when it is first asked for."""
ROUGHNESS_LEVELS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)


@dataclass(frozen=True)
class Environment:
    """radiance: (H, W, 3) linear, scene-referred, any unit, not negative.  Row 0 is up.

    rotation: (3, 3) env_from_world.  A direction d of the map's own frame, +Y up as in glTF, is looked up at
    u = atan2(d.z, d.x) / 2 pi + 1/2, v = acos(d.y) / pi; bilinear, around in u, held at the poles.
    Differentiable in the radiance, in the rotation and in directions.
    """

    radiance: Tensor
    rotation: Tensor = field(default_factory=lambda: torch.eye(3))

    delta = False

    def __post_init__(self) -> None:
        if self.radiance.ndim != 3 or self.radiance.shape[-1] != 3:
            raise ShapeError.expected("Environment.radiance", "(H, W, 3)", tuple(self.radiance.shape))

    @staticmethod
    def z_up(radiance: Tensor) -> Environment:
        """For worlds with +Z up: see `Z_UP`."""
        return Environment(radiance, torch.tensor(Z_UP).to(radiance))

    def rotated(self, rotation: Tensor) -> Environment:
        """The same map with another `rotation`; what was worked out from the map alone is kept."""
        other = Environment(self.radiance, rotation)
        other.__dict__.update({name: self.__dict__[name] for name in WORKED_OUT if name in self.__dict__})
        return other

    def turned(self, angle: float) -> Environment:
        """The light turned by `angle` radians about the map's vertical axis: what was at u is at u + angle / 2 pi."""
        c, s = math.cos(angle), math.sin(angle)
        turn = self.rotation.new_tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        return self.rotated(turn @ self.rotation)

    def upright(self, up: tuple[float, float, float] | None) -> Environment:
        """The light, given with +y up, stood up in a world whose unit `up` is this; as it is if that is not known.

        Up is taken for the world's axis within `SNAP` degrees of it, if there is one.  For +z up see `Z_UP`; otherwise
        the map is turned the shortest way.
        """
        if up is None:
            return self
        towards = torch.nn.functional.normalize(torch.tensor(up), dim=0)
        axis = towards.abs().argmax()
        if float(towards[axis].abs()) > math.cos(math.radians(SNAP)):
            towards = torch.zeros(3).index_fill(0, axis, float(towards[axis].sign()))
        y = torch.tensor([0.0, 1.0, 0.0])
        if float(towards[2]) == 1:
            turn = torch.tensor(Z_UP)
        elif float(towards[1]) == -1:
            turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        else:
            # Rodrigues' formula for the turn that takes `towards` to y.
            cross = torch.linalg.cross(towards, y)
            k = torch.tensor([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
            turn = torch.eye(3) + k + k @ k / (1 + towards @ y)
        return self.rotated(self.rotation @ turn.to(self.rotation))

    def uv(self, directions: Tensor) -> Tensor:
        """(..., 2) texture coordinates of (..., 3) unit world directions."""
        x, y, z = (directions @ self.rotation.to(directions).mT).unbind(-1)
        # atan2 has no derivative at the poles, where u means nothing.
        pole = x * x + z * z < 1e-12
        x = torch.where(pole, 1.0, x)
        u = torch.atan2(torch.where(pole, 0.0, z), x) / (2 * math.pi) + 0.5
        return torch.stack([u, torch.acos(y.clamp(-1 + 1e-7, 1 - 1e-7)) / math.pi], -1)

    def directions(self, uv: Tensor) -> Tensor:
        """Inverse of `uv`: (..., 3) unit, world."""
        phi, theta = (uv[..., 0] - 0.5) * 2 * math.pi, uv[..., 1] * math.pi
        s = theta.sin()
        return torch.stack([s * phi.cos(), theta.cos(), s * phi.sin()], -1) @ self.rotation.to(uv)

    def eval(self, directions: Tensor) -> Tensor:
        """(..., 3) radiance from (..., 3) unit world directions."""
        return bilinear(self.radiance, self.uv(directions))

    @cached_property
    def cells(self) -> tuple[Tensor, Tensor, Tensor]:
        """For sampling: cumulative sums of rows (H,), of columns in each row plus the row's number (H * W,), and the
        density (H, W), 1/sr, of the cells.

        A cell's chance is its solid angle times the mean of what bilinear lookup gives in it, so nothing that shines
        is left out.
        """
        with torch.no_grad():
            light = self.radiance.double().mean(-1)
            around = torch.cat([light[:, -1:], light, light[:, :1]], 1)
            light = (around[:, :-2] + 6 * around[:, 1:-1] + around[:, 2:]) / 8
            held = torch.cat([light[:1], light, light[-1:]], 0)
            light = (held[:-2] + 6 * held[1:-1] + held[2:]) / 8
            height, width = light.shape
            edges = torch.linspace(0, math.pi, height + 1, dtype=torch.float64, device=light.device).cos()
            solid = (edges[:-1] - edges[1:])[:, None] * (2 * math.pi / width)
            light = light + 1e-3 * light.mean() + 1e-12
            mass = light * solid / (light * solid).sum()
            rows = mass.sum(1)
            columns = (mass / rows[:, None]).cumsum(1)
            columns = columns / columns[:, -1:] + torch.arange(height, device=light.device)[:, None]
            kind = self.radiance.dtype
            return (rows.cumsum(0) / rows.sum()), columns.reshape(-1), (mass / solid).to(kind)

    def pdf(self, directions: Tensor) -> Tensor:
        """(...,) density of `sample`, 1/sr."""
        height, width = self.radiance.shape[:2]
        uv = self.uv(directions)
        x = (uv[..., 0] % 1 * width).long().clamp(0, width - 1)
        y = (uv[..., 1] * height).long().clamp(0, height - 1)
        return self.cells[2][y, x]

    def sample(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., 2) in 0 to 1 to (..., 3) directions, (..., 3) radiance, (...,) density; radiance is differentiated."""
        height, width = self.radiance.shape[:2]
        rows, columns, density = self.cells
        with torch.no_grad():
            u = u.double().clamp(0, 1 - 1e-9)
            row = torch.searchsorted(rows, u[..., 0].contiguous(), right=True).clamp(0, height - 1)
            below = torch.where(row > 0, rows[(row - 1).clamp_min(0)], 0.0)
            within = ((u[..., 0] - below) / (rows[row] - below)).clamp(0, 1)
            flat = torch.searchsorted(columns, (u[..., 1] + row).contiguous(), right=True)
            flat = torch.minimum(flat, row * width + width - 1)
            column = flat - row * width
            left = torch.where(column > 0, columns[(flat - 1).clamp_min(0)] - row, 0.0)
            across = ((u[..., 1] - left) / (columns[flat] - row - left)).clamp(0, 1)
            # Uniform in solid angle within a cell: in the cosine, and around.
            top, bottom = (math.pi * row / height).cos(), (math.pi * (row + 1) / height).cos()
            v = (top + (bottom - top) * within).clamp(-1, 1).acos() / math.pi
            uv = torch.stack([(column + across) / width, v], -1).to(self.radiance.dtype)
            directions = self.directions(uv)
        return directions, bilinear(self.radiance, uv), density[row, column]

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """See `relight.shading.lights.Light`."""
        direction, radiance, pdf = self.sample(u)
        return LightSample(direction, torch.full_like(pdf, FAR), radiance, pdf)

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `relight.shading.lights.Light`."""
        pdf = self.pdf(direction)
        return LightSample(direction, torch.full_like(pdf, FAR), self.eval(direction), pdf)

    @cached_property
    def _irradiance(self) -> Tensor:
        return blurred(self.radiance, None)

    def irradiance(self, normals: Tensor) -> Tensor:
        """(..., 3) irradiance / pi: what a white Lambertian surface with these normals shows."""
        return bilinear(self._irradiance, self.uv(normals))

    @cached_property
    def prefiltered(self) -> tuple[Tensor, ...]:
        """One map a level of ROUGHNESS_LEVELS: seen by GGX lobes whose eye, normal and mirror direction coincide
        (Karis 2013).  Kept: an environment whose radiance is being fitted is a new one in every step.
        """
        return (self.radiance, *(blurred(self.radiance, r) for r in ROUGHNESS_LEVELS[1:]))

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """(..., 3) prefiltered radiance about (..., 3) mirror directions, linear between levels of roughness (...,)."""
        levels = roughness.new_tensor(ROUGHNESS_LEVELS)
        upper = torch.bucketize(roughness.detach().contiguous(), levels).clamp(1, len(levels) - 1)
        share = ((roughness - levels[upper - 1]) / (levels[upper] - levels[upper - 1])).clamp(0, 1)[..., None]
        uv = self.uv(directions)
        out = torch.zeros_like(directions)
        for k, level in enumerate(self.prefiltered):
            weight = torch.where(
                (upper == k)[..., None], share, torch.where((upper - 1 == k)[..., None], 1 - share, 0.0)
            )
            out = out + weight * bilinear(level, uv)
        return out


def bilinear(image: Tensor, uv: Tensor) -> Tensor:
    """(..., C) of a (H, W, C) map at (..., 2) coordinates: around in u, held in v, texel centres at halves."""
    width, channels = image.shape[1:]
    # One more column on either side, so that interpolation goes around.
    around = torch.cat([image[:, -1:], image, image[:, :1]], 1).permute(2, 0, 1)[None]
    u = uv[..., 0] - uv[..., 0].detach().floor()
    grid = torch.stack([2 * (u * width + 1) / (width + 2) - 1, 2 * uv[..., 1] - 1], -1).to(image.dtype)
    found = torch.nn.functional.grid_sample(
        around, grid.reshape(1, 1, -1, 2), padding_mode="border", align_corners=False
    )
    return found.reshape(channels, -1).mT.reshape(*uv.shape[:-1], channels)
