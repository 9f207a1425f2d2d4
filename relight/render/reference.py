"""The slow torch twin of every splat kernel: the specification.

Every Gaussian is evaluated at every pixel and autograd differentiates it, in the dtype and on the device of the input.
Memory grows with Gaussians x pixels of a chunk; meant for at most a thousand Gaussians on small pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import (
    ALPHA_MIN,
    Capabilities,
    RasterOptions,
    ScreenStatistics,
    SplatImage,
)

EDGE_ON = 1e-6
"""A disc whose screen tangents have a determinant below this share of their squared length has only its floor drawn."""


@dataclass(frozen=True)
class _Screen:
    """Drawn Gaussians in the picture: what the kernels call records, for M of them, front to back.

    index: (M,) into the input.  means: (M, 2) pixels.  depth: (M,).  opacity: (M,).
    shape: ellipsoid: conic xx, xy, yy; surfel: the six numbers of (u, v) = (s0 dx + s1 dy, s2 dx + s3 dy) /
    (1 + s4 dx + s5 dy) with d = pixel - mean, then where d is at the middle of the screen-space floor.
    half_box: (M, 2) pixels, half sides of the box where alpha >= ALPHA_MIN.
    """

    index: Tensor
    means: Tensor
    depth: Tensor
    opacity: Tensor
    shape: Tensor
    half_box: Tensor


def _ellipsoids(t: Tensor, axes: Tensor, opacity: Tensor, camera: Camera, options: RasterOptions, antialiased: bool):
    """EWA splatting: conic (M, 3), opacity (M,), half box (M, 2) from camera-frame centres and scaled axes."""
    slopes = t[:, :2] / t[:, 2:]
    size = t.new_tensor([camera.width, camera.height])
    focal, center = t.new_tensor([camera.fx, camera.fy]), t.new_tensor([camera.cx, camera.cy])
    margin = 0.15 * size / focal
    slopes = torch.minimum(torch.maximum(slopes, -center / focal - margin), (size - center) / focal + margin)
    # Rows of J W R S: screen images of the scaled axes.
    m = (focal / t[:, 2:])[:, :, None] * (axes[:, :2] - slopes[:, :, None] * axes[:, 2:])
    raw = torch.linalg.cross(m[:, 0], m[:, 1]).square().sum(-1)
    xx, yy, xy = m[:, 0].square().sum(-1), m[:, 1].square().sum(-1), (m[:, 0] * m[:, 1]).sum(-1)
    det = raw + options.low_pass * (xx + yy) + options.low_pass**2
    if antialiased:
        opacity = opacity * torch.sqrt(raw.clamp_min(1e-30) / det)
    xx, yy = xx + options.low_pass, yy + options.low_pass
    reach = 2 * (opacity.detach() / ALPHA_MIN).clamp_min(1.0).log()
    half_box = torch.stack([reach * xx, reach * yy], -1).detach().sqrt()
    return torch.stack([yy / det, -xy / det, xx / det], -1), opacity, half_box


def _surfels(t: Tensor, axes: Tensor, opacity: Tensor, camera: Camera, floor_on_box: bool):
    """2DGS: shape (M, 8), opacity (M,), half box (M, 2) from camera-frame centres and scaled axes."""
    focal = t.new_tensor([camera.fx, camera.fy])
    slopes = t[:, :2] / t[:, 2:]
    tangents = focal[:, None] * (axes[:, :2, :2] - slopes[:, :, None] * axes[:, 2:, :2])
    det = torch.linalg.det(tangents)
    edge_on = (det.abs() <= EDGE_ON * tangents.square().sum((-1, -2))).detach()
    eye = torch.eye(2, dtype=t.dtype, device=t.device).expand_as(tangents)
    inverse = torch.linalg.inv(torch.where(edge_on[:, None, None], eye, tangents))
    slants = -(axes[:, 2:, :2] @ inverse)[:, 0]
    shape = torch.cat([(t[:, 2:, None] * inverse).flatten(1), slants], 1)
    # Seen from the side: an ellipse so small that only the screen-space floor is left.
    shape = torch.where(edge_on[:, None], shape.new_tensor([1e9, 0, 0, 1e9, 0, 0]), shape)
    # The disc's outline is a conic section; its box follows from tangent lines (2DGS, eq. 9).
    back = torch.linalg.inv(shape[:, :4].reshape(-1, 2, 2))
    slant = -(shape[:, None, 4:] @ back)[:, 0]

    def outline(reach) -> tuple[Tensor, Tensor]:
        f = 1 - reach * slant.square().sum(-1, keepdim=True)
        return f, -reach * (back * slant[:, None]).sum(-1) / f

    floor = outline(1.0)[1] if floor_on_box else torch.zeros_like(shape[:, :2])
    with torch.no_grad():
        reach = (2 * (opacity / ALPHA_MIN).clamp_min(1.0).log())[:, None]
        f, middle = outline(reach)
        half = middle.abs() + (middle.square() + reach * back.square().sum(-1) / f).clamp_min(0).sqrt()
        half = torch.maximum(half, (reach / 2).sqrt())
        everywhere = 2e4 * torch.ones_like(half)
        half = torch.where(f <= 1e-4, everywhere, half)
    return torch.cat([shape, floor], 1), opacity, half


def _project(gaussians: Gaussians, camera: Camera, options: RasterOptions, floor_on_box: bool) -> _Screen:
    pose = camera.camera_from_world.to(gaussians.means)
    raw = torch.cat(
        [gaussians.means, gaussians.quats_wxyz, gaussians.log_scales, gaussians.logit_opacity[:, None]], 1
    ).detach()
    finite = torch.isfinite(raw).all(-1)
    t = gaussians.means.detach() @ pose[:3, :3].detach().mT + pose[:3, 3].detach()
    index = (finite & (t[:, 2] >= options.near)).nonzero().squeeze(-1)
    index = index[t[index, 2].sort(stable=True).indices]
    chosen = gaussians[index]
    t = chosen.means @ pose[:3, :3].mT + pose[:3, 3]
    axes = pose[:3, :3] @ chosen.rotations * chosen.scales[:, None, :]
    focal, center = t.new_tensor([camera.fx, camera.fy]), t.new_tensor([camera.cx, camera.cy])
    means = focal * t[:, :2] / t[:, 2:] + center
    if gaussians.surfels:
        shape, opacity, half_box = _surfels(t, axes, chosen.opacities, camera, floor_on_box)
    else:
        shape, opacity, half_box = _ellipsoids(t, axes, chosen.opacities, camera, options, gaussians.antialiased)
    size = t.new_tensor([camera.width, camera.height])
    seen = ((means + half_box > 0) & (means - half_box < size)).all(-1) & (opacity > ALPHA_MIN)
    seen = (seen & torch.isfinite(shape).all(-1)).detach().nonzero().squeeze(-1)
    return _Screen(index[seen], means[seen], t[seen, 2], opacity[seen], shape[seen], half_box[seen])


def _alphas(screen: _Screen, pixels: Tensor, surfels: bool, shift: Tensor, alpha_max: float) -> Tensor:
    """(P, M) alphas at (P, 2) pixels.  shift: (P, M, 2) zeros, added to the screen means to be differentiated."""
    d = pixels[:, None] - screen.means - shift
    dx, dy = d.unbind(-1)
    s = screen.shape.unbind(-1)
    if surfels:
        w = 1 + s[4] * dx + s[5] * dy
        safe = torch.where(w == 0, torch.ones_like(w), w)
        u, v = (s[0] * dx + s[1] * dy) / safe, (s[2] * dx + s[3] * dy) / safe
        rho = torch.where(w == 0, torch.full_like(w, torch.inf), u * u + v * v)
        exponent = torch.minimum(rho / 2, (dx - s[6]) ** 2 + (dy - s[7]) ** 2)
    else:
        exponent = 0.5 * (s[0] * dx * dx + s[2] * dy * dy) + s[1] * dx * dy
    alpha = screen.opacity * torch.exp(-exponent)
    alpha = torch.where(alpha < ALPHA_MIN, torch.zeros_like(alpha), alpha)
    return alpha.clamp_max(alpha_max)


class _Probe(torch.autograd.Function):
    """Zeros added to the screen means of every pixel; its gradient fills the statistics."""

    @staticmethod
    def forward(ctx, means: Tensor, pixels: int, statistics: ScreenStatistics, index: Tensor):
        ctx.statistics, ctx.index = statistics, index
        return means.new_zeros(pixels, *means.shape)

    @staticmethod
    def backward(ctx, *gradients):
        (g,) = gradients
        statistics, index = ctx.statistics, ctx.index
        for name, value in (("gradients", g.sum(0)), ("absolute_gradients", g.abs().sum(0))):
            if getattr(statistics, name) is None:
                setattr(statistics, name, torch.zeros_like(statistics.means))
            getattr(statistics, name).index_add_(0, index, value.to(statistics.means.dtype))
        return None, None, None, None


class ReferenceRasterizer:
    """`SplatRasterizer` in plain torch.  No early termination: pictures are exact to rounding.

    like: draw as a backend with these capabilities, where backends may differ.
    """

    name = "reference"

    def __init__(self, pixels_per_chunk: int = 1024, like: Capabilities | None = None):
        self.pixels_per_chunk = pixels_per_chunk
        self.capabilities = replace(like, device="any") if like else Capabilities(device="any")

    def rasterize(
        self, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions = RasterOptions()
    ) -> SplatImage:
        """See `SplatRasterizer.rasterize`; any floating dtype."""
        screen = _project(gaussians, camera, options, self.capabilities.floor_on_box)
        n = len(gaussians)
        radii, means = features.new_zeros(n), features.new_zeros(n, 2)
        radii[screen.index] = screen.half_box.amax(-1).to(radii)
        means[screen.index] = screen.means.detach().to(means)
        statistics = ScreenStatistics(radii, means)
        values = torch.cat([features[screen.index], screen.depth[:, None], torch.ones_like(screen.depth)[:, None]], 1)
        pixels = camera.pixel_grid().reshape(-1, 2).to(screen.means)
        images, medians = [], []
        for chunk in pixels.split(self.pixels_per_chunk):
            shift = _Probe.apply(screen.means, len(chunk), statistics, screen.index)
            alpha = _alphas(screen, chunk, gaussians.surfels, shift, self.capabilities.alpha_max)
            passing = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha], 1), 1)
            images.append((alpha * passing[:, :-1]) @ values)
            crossing = (passing[:, :-1] >= 0.5) & (passing[:, 1:] < 0.5)
            medians.append((crossing * screen.depth.detach()).sum(1))
        image = torch.cat(images).unflatten(0, (camera.height, camera.width))
        median = torch.cat(medians).unflatten(0, (camera.height, camera.width))
        return SplatImage(image[..., :-2], image[..., -1], image[..., -2], median, statistics)


def unavailable() -> str | None:
    """None: plain torch."""
    return None
