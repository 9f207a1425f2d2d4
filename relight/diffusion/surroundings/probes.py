"""Light from all around, measured: photographs of a mirror ball, and exposures of one scene to high dynamic range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from relight.diffusion.surroundings.framing import SUB, map_directions
from relight.diffusion.surroundings.light_edit import filled
from relight.errors import RelightError, ShapeError
from relight.shading.color import srgb_to_linear

HIDDEN = 6.0
"""Degrees about the direction straight behind the ball, which its rim squeezes into less than a pixel."""
LEVELS = 256
SAMPLES = 150
SMOOTH = 40.0
"""Weight of smoothness of the response, the lambda of Debevec and Malik."""
DARK, BRIGHT = 0.02, 0.98
"""Display values outside of which a camera tells nothing."""


def from_mirror_ball(
    picture: Tensor, rows: int = 128, circle: tuple[float, float, float] | None = None, distance: float = math.inf
) -> Tensor:
    """(rows, 2 rows, 3) radiance, times what the ball reflects, of a linear (h, w, 3) photograph of a mirror ball.

    The middle of the map is what the camera looks at, hidden by the ball; its own picture is at the ends.
    circle: x, y and radius of the ball's outline, pixels from the picture's corner; if None, the largest in the middle.
    distance: of the camera from the ball's middle, in radii; far away by default.
    What the ball hides is drawn in from around it.  Raises ShapeError, and RelightError for a circle outside.
    """
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ShapeError.expected("mirror ball", "(h, w, 3)", tuple(picture.shape))
    height, width = picture.shape[:2]
    x, y, radius = circle or (width / 2, height / 2, min(width, height) / 2)
    if not (radius >= 2 and radius - 1 <= x <= width - radius + 1 and radius - 1 <= y <= height - radius + 1):
        raise RelightError(
            f"mirror ball: a circle of radius {radius:g} about ({x:g}, {y:g}) isn't within the {width}x{height} "
            "picture; give x, y and radius in pixels"
        )
    if not distance > 1.2:
        raise RelightError(f"mirror ball: expected a distance above 1.2 radii, found {distance:g}")
    towards = map_directions(rows * SUB)
    normal = _normals(towards, distance)
    # On the picture, the outline is where the rays touch the ball.
    right, up = normal[..., 2], normal[..., 1]
    if math.isfinite(distance):
        # Perspective: a place n is seen at n / (distance + n.x), the outline at 1 / sqrt(distance^2 - 1).
        scale = math.sqrt(distance * distance - 1) / (distance + normal[..., 0])
        right, up = right * scale, up * scale
    # Half a pixel within the outline, beyond which is not the ball.
    inner = radius * (1 - 0.5 / radius)
    where = torch.stack([(x + inner * right) * 2 / width - 1, (y - inner * up) * 2 / height - 1], -1)
    found = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], where[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    small = torch.nn.functional.avg_pool2d(found, SUB)[0].permute(1, 2, 0)
    seen = map_directions(rows)[..., 0] < math.cos(math.radians(HIDDEN))
    if math.isfinite(distance):
        # The rim reflects what is beside the ball's shadow cone, not behind it.
        seen &= map_directions(rows)[..., 0] < math.cos(math.asin(1 / distance) + math.radians(HIDDEN))
    return filled(small.clamp_min(0), seen)


def _normals(towards: Tensor, distance: float) -> Tensor:
    """(..., 3) unit normals of the ball where a camera on -x sees (..., 3) unit directions mirrored."""
    ahead = towards.new_tensor([1.0, 0.0, 0.0])
    if not math.isfinite(distance):
        return _unit(towards - ahead)
    # The ray from the eye to the place on the ball depends on the place: a few rounds settle it.
    normal = _unit(towards - ahead)
    for _ in range(30):
        ray = _unit(normal + ahead * distance)
        normal = torch.lerp(normal, _unit(towards - ray), 0.7)
        normal = _unit(normal)
    return normal


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def merged(pictures: Sequence[Tensor], times: Sequence[float] | None = None, *, response: str = "srgb") -> Tensor:
    """(h, w, 3) linear radiance, 1 being white in the first picture, of (h, w, 3) display values, 0 to 1, of one scene.

    times: exposures, in any unit; None works them out from the pictures, which takes response "srgb".
    response: "srgb", or "fit", the camera's own curve (Debevec and Malik, SIGGRAPH 1997) from at least three pictures.
    Each pixel is a mean of exposures that tell most (a hat over display values, and times, since light gathered for
    longer has less noise); where all are too bright the shortest is taken, where all are too dark the longest.
    Raises RelightError for fewer than two pictures, other sizes, times that aren't above 0 and apart.
    """
    if len(pictures) < 2 or any(p.shape != pictures[0].shape or p.shape[-1] != 3 for p in pictures):
        shapes = ", ".join("x".join(map(str, p.shape[1::-1])) for p in pictures)
        raise RelightError(f"exposures: expected two or more pictures of one size, found {shapes}")
    if response not in ("srgb", "fit"):
        raise RelightError(f"exposures: response {response!r}: expected srgb or fit")
    if times is None:
        if response == "fit":
            raise RelightError("exposures: a response can't be fitted without times; give them")
        times = exposures_of(pictures)
    if len(times) != len(pictures) or min(times) <= 0 or max(times) < 1.05 * min(times):
        found = ", ".join(f"{t:g}" for t in times)
        raise RelightError(f"exposures: expected {len(pictures)} times above 0, not all alike, found {found}")
    stack, exposure = torch.stack(list(pictures)), torch.tensor(list(times))
    if response == "fit":
        if len(pictures) < 3:
            raise RelightError(f"exposures: fitting a response takes three pictures or more, found {len(pictures)}")
        linear = _through(fitted_response(pictures, times), stack)
    else:
        linear = srgb_to_linear(stack)
    each = exposure.view(-1, 1, 1, 1)
    # One weight a pixel, not a channel, lest clipped colours shift.
    hat = (1 - (2 * stack - 1).abs()).amin(-1, keepdim=True).clamp_min(0)
    outside = (stack.amax(-1, keepdim=True) >= BRIGHT) | (stack.amax(-1, keepdim=True) <= DARK)
    weight = torch.where(outside, 0.0, hat + 1e-3) * each
    mean = (weight * linear / each).sum(0) / weight.sum(0).clamp_min(1e-12)
    shortest, longest = int(exposure.argmin()), int(exposure.argmax())
    bright = stack[shortest].amax(-1, keepdim=True) >= BRIGHT
    else_ = torch.where(bright, linear[shortest] / exposure[shortest], linear[longest] / exposure[longest])
    return torch.where(weight.sum(0) > 0, mean, else_) * exposure[0]


def exposures_of(pictures: Sequence[Tensor]) -> list[float]:
    """Exposures, of which the first is 1, of (h, w, 3) sRGB-encoded pictures of one scene: medians of ratios where two
    neighbours in brightness both tell something.  Raises RelightError if two have nothing in common.
    """
    order = sorted(range(len(pictures)), key=lambda k: float(pictures[k].mean()))
    found = {order[0]: 1.0}
    for low, high in pairwise(order):
        a, b = pictures[low], pictures[high]
        both = (a > 0.05) & (a < 0.95) & (b > 0.05) & (b < 0.95)
        if int(both.sum()) < 30:
            raise RelightError(
                f"exposures: pictures {low + 1} and {high + 1} show nothing well in common; give times, or one between"
            )
        found[high] = found[low] * float((srgb_to_linear(b[both]) / srgb_to_linear(a[both])).median())
    return [found[k] / found[0] for k in range(len(pictures))]


def fitted_response(pictures: Sequence[Tensor], times: Sequence[float]) -> Tensor:
    """(256, 3) logarithm of the exposure that gives each display level: least squares over samples of the scene, the
    curve's second differences held small (Debevec and Malik 1997); 0.5 display is 0.18 exposure, as near as levels go.
    """
    stack = torch.stack(list(pictures))
    count = len(stack)
    flat = (stack.reshape(count, -1, 3) * (LEVELS - 1)).round().long()
    log_time = torch.tensor([math.log(t) for t in times], dtype=torch.float64)
    level = torch.arange(LEVELS, dtype=torch.float64)
    hat = torch.minimum(level, LEVELS - 1 - level) / (LEVELS / 2) + 0.01
    curves = []
    for channel in range(3):
        values = flat[..., channel]
        # Places spread over the brightness of the middle exposure, so that every part of the curve is seen.
        order = values.float().mean(0).argsort()
        places = order[torch.linspace(0, len(order) - 1, min(SAMPLES, len(order))).long()]
        z = values[:, places].T.reshape(-1)
        weight, number = hat[z], torch.arange(len(places)).repeat_interleave(count)
        rows = torch.arange(len(z))
        matrix = torch.zeros(len(z) + LEVELS - 1, LEVELS + len(places), dtype=torch.float64)
        right = torch.zeros(len(matrix), dtype=torch.float64)
        matrix[rows, z] = weight
        matrix[rows, LEVELS + number] = -weight
        right[: len(z)] = weight * log_time.repeat(len(places))
        bend = torch.arange(1, LEVELS - 1)
        for offset, factor in ((-1, 1.0), (0, -2.0), (1, 1.0)):
            matrix[len(z) + bend - 1, bend + offset] = factor * SMOOTH * hat[bend]
        matrix[-1, LEVELS // 2], right[-1] = 1.0, math.log(0.18)
        curves.append(torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:LEVELS, 0])
    return torch.stack(curves, -1).float()


def _through(curve: Tensor, stack: Tensor) -> Tensor:
    """Exposures of display values by a (256, 3) curve, linear between levels."""
    position = stack * (LEVELS - 1)
    low = position.floor().long().clamp(0, LEVELS - 2)
    channel = torch.arange(3)
    log = torch.lerp(curve[low, channel], curve[low + 1, channel], position - low)
    return log.exp()
