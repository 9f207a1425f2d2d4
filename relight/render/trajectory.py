"""Camera paths that suit a capture: a turn around it, a spline through its cameras, a spiral in front of it.

All paths are closed where the capture allows it, so that a film loops.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relight.errors import RelightError
from relight.geometry.camera import Camera, evenly
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at, quaternion_from_rotation, rotation_from_quaternion

FULL_TURN_GAP = math.radians(100)
"""A capture with no larger gap between neighbouring azimuths is taken to go all the way round; a larger gap is a side
that nobody photographed, and `orbit` then swings over the photographed arc instead of showing it."""
SMALLEST_SWING = math.radians(8)
"""To either side, also for a single camera: enough parallax to see depth."""


def turntable(
    center: Tensor, up: Tensor, distance: float, elevation: float, azimuths: Tensor, lens: Camera, start: Tensor
) -> list[Camera]:
    """Cameras on a circle around `center`, looking at it.

    center: (3,) world.  up: (3,) world, any length.  distance: world units.  elevation, azimuths (F,): radians;
    azimuth 0 is the direction `start` (3,), counted counter-clockwise seen from above.  lens: intrinsics and size.
    """
    up = torch.nn.functional.normalize(up, dim=0)
    ahead = _perpendicular(start, up)
    side = torch.linalg.cross(up, ahead)
    cameras = []
    for azimuth in azimuths.tolist():
        outward = math.cos(azimuth) * ahead + math.sin(azimuth) * side
        eye = center + distance * (math.cos(elevation) * outward + math.sin(elevation) * up)
        # Straight above or below, the picture's top is where the circle's axis no longer tells: away from the viewer.
        top = up if abs(elevation) < math.radians(89) else -math.copysign(1, elevation) * outward
        cameras.append(replace(lens, world_from_camera=look_at(eye, center, top)))
    return cameras


def orbit(cameras: Sequence[Camera], center: Tensor, up: Tensor | None = None, *, frames: int) -> list[Camera]:
    """A turn around `center` (3,) at the capture's mean elevation and distance.

    All the way round if the capture is; otherwise to and fro over the arc that was photographed.  The first frame is
    nearest to the first camera's azimuth.  up: (3,) world, None for the mean of the cameras' own.
    """
    _check(cameras, frames)
    center = center.to(torch.float32).cpu()
    axis = mean_up(cameras) if up is None else torch.nn.functional.normalize(up.to(torch.float32).cpu(), dim=0)
    offsets = torch.stack([c.position.detach().cpu() for c in cameras]) - center
    distances = offsets.norm(dim=1)
    if float(distances.max()) < 1e-12:
        raise RelightError("orbit: all cameras are at the centre of the scene; use a spline through them instead")
    elevation = float(torch.asin((offsets @ axis / distances.clamp_min(1e-12)).clamp(-1, 1)).mean())
    start = _perpendicular(offsets[0], axis)
    side = torch.linalg.cross(axis, start)
    angles = torch.atan2(offsets @ side, offsets @ start)
    return turntable(
        center, axis, float(distances.mean()), elevation, _covered_azimuths(angles, frames), mean_lens(cameras), start
    )


def _covered_azimuths(angles: Tensor, frames: int) -> Tensor:
    """(F,) radians: a full turn from 0, or a cosine swing across the covered arc that begins at 0 and returns."""
    ordered = angles.sort().values
    gaps = torch.cat([ordered[1:] - ordered[:-1], ordered[:1] + 2 * math.pi - ordered[-1:]])
    widest = int(gaps.argmax())
    t = torch.arange(frames) / frames
    if float(gaps[widest]) <= FULL_TURN_GAP:
        return 2 * math.pi * t
    first = float(ordered[(widest + 1) % len(ordered)])
    half = (2 * math.pi - float(gaps[widest])) / 2
    middle = first + half
    half = max(half, SMALLEST_SWING)
    # Azimuth 0 is a camera, so it lies on the arc up to whole turns: start the swing there.
    sine = math.remainder(-middle, 2 * math.pi) / half
    return middle + half * torch.sin(2 * math.pi * t + math.asin(max(-1.0, min(1.0, sine))))


def spline(cameras: Sequence[Camera], *, frames: int, keyframes: int = 24) -> list[Camera]:
    """A smooth closed path through the capture's own cameras, at constant speed.

    Through at most `keyframes` of them, in capture order, or from nearest to nearest where that is much shorter
    (captures whose order is random).  Catmull-Rom through positions and quaternions.
    """
    _check(cameras, frames)
    positions = torch.stack([c.position.detach().cpu() for c in cameras]).double()
    rotations = torch.stack([c.world_from_camera[:3, :3].detach().cpu() for c in cameras]).double()
    order = _short_order(positions)
    chosen = [order[i] for i in evenly(len(order), keyframes)]
    keys = torch.cat([positions[chosen], _aligned(quaternion_from_rotation(rotations[chosen]))], 1)
    dense = _catmull_rom(keys, per_segment=max(8, 4 * frames // len(chosen)))
    # Speed counts travel and turning: one radian weighs as much as the path's own size.
    size = (positions - positions.mean(0)).norm(dim=1).mean().clamp_min(1e-9)
    steps = torch.diff(torch.cat([dense[:, :3] / size, 2 * dense[:, 3:]], 1), dim=0).norm(dim=1)
    travelled = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    wanted = torch.arange(frames) / frames * travelled[-1]
    after = torch.searchsorted(travelled, wanted, right=True).clamp(1, len(travelled) - 1)
    share = (wanted - travelled[after - 1]) / (travelled[after] - travelled[after - 1]).clamp_min(1e-12)
    path = torch.lerp(dense[after - 1], dense[after], share[:, None])
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, :3, :3] = rotation_from_quaternion(path[:, 3:]).float()
    poses[:, :3, 3] = path[:, :3].float()
    lens = mean_lens(cameras)
    return [replace(lens, world_from_camera=pose) for pose in poses]


def spiral(cameras: Sequence[Camera], center: Tensor, *, frames: int, turns: int = 2) -> list[Camera]:
    """A spiral in front of a forward-facing capture, within the reach of its cameras, looking at a fixed point.

    Around the mean camera, with an amplitude of the 90th percentile of the cameras' offsets along its axes (Mildenhall
    et al., LLFF, SIGGRAPH 2019).  The fixed point is on the mean camera's axis, as far away as `center` (3,).
    """
    _check(cameras, frames)
    positions = torch.stack([c.position.detach().cpu() for c in cameras])
    forward = torch.stack([c.forward.detach().cpu() for c in cameras]).mean(0)
    middle = positions.mean(0)
    if float(forward.norm()) < 0.1:
        raise RelightError(
            "spiral: the cameras look in all directions; a spiral suits forward-facing captures, use orbit"
        )
    average = look_at(middle, middle + forward, mean_up(cameras))
    axes = average[:3, :3]
    reach = torch.quantile(((positions - middle) @ axes).abs(), 0.9, dim=0)
    distance = float((center.to(torch.float32).cpu() - middle) @ axes[:, 2])
    target = middle + axes[:, 2] * (distance if distance > float(reach.max()) else 4 * max(float(reach.max()), 1e-6))
    lens, out = mean_lens(cameras), []
    for i in range(frames):
        angle = 2 * math.pi * turns * i / frames
        wave = torch.tensor([math.cos(angle), math.sin(angle), math.sin(angle / turns)])
        out.append(replace(lens, world_from_camera=look_at(middle + axes @ (reach * wave), target, -axes[:, 1])))
    return out


def mean_up(cameras: Sequence[Camera]) -> Tensor:
    """(3,) unit, world: the direction that people who held these cameras called up.

    People keep the horizon level, so up is across every camera's x axis: the least-squares solution of that, pulled
    weakly to the mean of the cameras' own up directions (-y), which decides where the x axes leave it open (a
    forward-facing capture) and gives the sign.  The mean alone leans when a capture looks down from one side.
    """
    axes = torch.stack([c.world_from_camera[:3, :3].detach().cpu() for c in cameras]).double()
    mean = -axes[:, :, 1].mean(0)
    if float(mean.norm()) < 1e-3:
        raise RelightError("the cameras have no common up direction; give one")
    right = axes[:, :, 0]
    pull = 1e-3 * torch.eye(3, dtype=torch.float64)  # (2 degrees)^2: below a hand-held camera's usual roll
    up = torch.linalg.solve(right.mT @ right / len(cameras) + pull, mean)
    return torch.nn.functional.normalize(up, dim=0).float()


def mean_lens(cameras: Sequence[Camera]) -> Camera:
    """The most frequent picture size, the median relative focal length, a centred principal point."""
    sizes = [(c.width, c.height) for c in cameras]
    width, height = max(dict.fromkeys(sizes), key=sizes.count)
    focal = torch.tensor([[c.fx / c.width, c.fy / c.height] for c in cameras]).median(0).values.tolist()
    return Camera(torch.eye(4), focal[0] * width, focal[1] * height, width / 2, height / 2, width, height)


def with_size(camera: Camera, width: int, height: int) -> Camera:
    """The same view in another size: nothing leaves the picture; another aspect ratio shows more at two sides."""
    scale = min(width / camera.width, height / camera.height)
    return replace(
        camera, fx=camera.fx * scale, fy=camera.fy * scale, width=width, height=height,
        cx=width / 2 + (camera.cx - camera.width / 2) * scale,
        cy=height / 2 + (camera.cy - camera.height / 2) * scale,
    )  # fmt: skip


def subject(gaussians: Gaussians) -> tuple[Tensor, float]:
    """Centre (3,) and radius of what a splat is about: stray Gaussians and far surroundings don't count."""
    seen = gaussians.means[gaussians.opacities > 0.1]
    seen = seen if len(seen) else gaussians.means
    center = seen.median(0).values
    distance = (seen - center).norm(dim=1)
    most = distance.kthvalue(max(1, math.ceil(0.98 * len(distance)))).values
    radius = float(torch.minimum(most, 4 * distance.median()))
    return center, max(radius, float(gaussians.scales.max(1).values.median()), 1e-6)


def _check(cameras: Sequence[Camera], frames: int) -> None:
    if not cameras:
        raise RelightError("a camera path needs at least one camera, found none")
    if frames < 1:
        raise RelightError(f"a camera path needs at least one frame, got {frames}")


def _perpendicular(direction: Tensor, axis: Tensor) -> Tensor:
    """(3,) unit: the part of `direction` across the unit `axis`; any such vector when there is none."""
    across = direction - (direction @ axis) * axis
    if float(across.norm()) <= 1e-6 * float(direction.norm()):
        across = torch.linalg.cross(axis, torch.eye(3)[int(axis.abs().argmin())])
    return torch.nn.functional.normalize(across, dim=0)


def _short_order(positions: Tensor) -> list[int]:
    distances = torch.cdist(positions, positions)
    given = list(range(len(positions)))
    greedy, left = [0], set(given[1:])
    while left:
        row = distances[greedy[-1]].tolist()
        nearest = min(left, key=row.__getitem__)
        greedy.append(nearest)
        left.remove(nearest)

    def length(order: list[int]) -> float:
        return sum(float(distances[a, b]) for a, b in itertools.pairwise(order))

    return greedy if length(greedy) < 0.5 * length(given) else given


def _aligned(quats: Tensor) -> Tensor:
    """Quaternions with signs chosen so that neighbours are close: q and -q are one rotation, but not one path."""
    out = [quats[0]]
    for q in quats[1:]:
        out.append(-q if float(q @ out[-1]) < 0 else q)
    return torch.stack(out)


def _catmull_rom(keys: Tensor, per_segment: int) -> Tensor:
    """(K, C) keys to (S, C) samples of the uniform Catmull-Rom spline that ends where it starts.

    The way back retraces the keys when the ends are far apart, so a path along a wall does not jump through it.
    """
    gap = float((keys[0, :3] - keys[-1, :3]).norm())
    typical = float(torch.diff(keys[:, :3], dim=0).norm(dim=1).mean()) if len(keys) > 1 else 0.0
    if gap > 3 * typical:
        keys = torch.cat([keys, keys[1:-1].flip(0)])
    count, seam = len(keys), torch.ones(7, dtype=keys.dtype)
    if float(keys[0, 3:] @ keys[-1, 3:]) < 0:
        seam[3:] = -1.0  # the path returns as -q; keys beyond the seam carry that sign
    u = (torch.arange(per_segment, dtype=keys.dtype) / per_segment)[:, None]
    out = []
    for i in range(count):
        p = [keys[j % count] * (1.0 if 0 <= j < count else seam) for j in range(i - 1, i + 3)]
        out.append(
            0.5 * (2 * p[1] + (p[2] - p[0]) * u + (2 * p[0] - 5 * p[1] + 4 * p[2] - p[3]) * u**2
                   + (3 * (p[1] - p[2]) + p[3] - p[0]) * u**3)
        )  # fmt: skip
    return torch.cat([*out, (keys[0] * seam)[None]])
