"""Cut people out: how much of each pixel they cover, and the colours of what covers it, without what is behind.

A network says roughly where people are; along the edge, colours decide (closed-form matting).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relight.diffusion.portrait.networks import COVERAGE, Face, coverage
from relight.errors import RelightError, ShapeError
from relight.resize import resized, within

SIZE = 640
"""Pixels of the longer side at which edges are solved for."""
INNER, OUTER = 2.0, 3.0
"""Pixels of the network within and beyond its edge that may belong to both: hair reaches far."""
HEAD = 3.2
"""Sides of a face's box that the network sees again, for a finer edge."""
SMALL = 0.05
"""Share of the largest person below which others are a crowd behind."""
WINDOW, EPSILON = 1, 1e-5
"""Reach of closed-form matting's windows, and its regulariser (Levin, Lischinski and Weiss, PAMI 2008)."""
TRUST = 2e-3
"""Weight of the network's word where colours say nothing."""
LEAST = 0.02
"""Coverage under which a pixel counts as background."""


class NobodyError(RelightError):
    """A picture or a matte with nobody in it."""


@dataclass(frozen=True)
class Cut:
    """alpha: (H, W) 0 to 1.  front, behind: (H, W, 3) sRGB-encoded: picture = alpha front + (1 - alpha) behind; what is
    hidden is drawn in from beside it.
    """

    alpha: Tensor
    front: Tensor
    behind: Tensor

    @property
    def mask(self) -> Tensor:
        """(H, W) bool: whatever has some of the subject in it."""
        return self.alpha > LEAST

    def before(self, front: Tensor, background: Tensor | None = None) -> Tensor:
        """(H, W, 3) the subject, as it looks now, before (H, W, 3) background; None for what was behind it.

        Mixed as encoded, which is how alpha was found: mixed otherwise, the picture wouldn't come back.
        """
        return torch.lerp(self.behind if background is None else background, front, self.alpha[..., None])


def cut_out(picture: Tensor, faces: Sequence[Face]) -> Cut:
    """Of (H, W, 3) sRGB.  faces: of `networks.faces`; with none, edges are coarser.  Raises NobodyError."""
    rough = whereabouts(picture, faces)
    if not bool((rough > 0.5).any()):
        raise NobodyError("no person found in the picture; say where the subject is with --matte, or with transparency")
    return with_alpha(picture, refined(picture, rough))


def with_alpha(picture: Tensor, alpha: Tensor) -> Cut:
    """Of (H, W, 3) sRGB and its (H, W) alpha, as given by the user, say.  Raises ShapeError, NobodyError."""
    if picture.shape[:2] != alpha.shape:
        raise ShapeError.expected("alpha", str(tuple(picture.shape[:2])), tuple(alpha.shape))
    if not bool((alpha > 0.5).any()):
        raise NobodyError("the matte is empty: nothing in it is white, so there is nobody to relight")
    return Cut(alpha, *_unmixed(picture, alpha))


def whereabouts(picture: Tensor, faces: Sequence[Face]) -> Tensor:
    """(H, W) 0 to 1 of (H, W, 3) sRGB: the network's word of the whole, and again of each head from nearer."""
    height, width = picture.shape[:2]
    out = coverage(picture)
    for face in faces:
        reach = HEAD / 2 * face.size
        x, y = face.middle.tolist()
        left, right = max(0, round(x - reach)), min(width, round(x + reach))
        top, bottom = max(0, round(y - reach)), min(height, round(y + reach))
        if min(right - left, bottom - top) < 8 or face.size > 0.5 * max(height, width):
            continue
        nearer = coverage(picture[top:bottom, left:right])
        column, row = torch.linspace(-1, 1, right - left), torch.linspace(-1, 1, bottom - top)
        weight = ((1 - torch.maximum(column.abs()[None], row.abs()[:, None])) * 4).clamp(0, 1)
        # At the picture's own edges there is nothing to fade to.
        out[top:bottom, left:right] = torch.lerp(out[top:bottom, left:right], nearer, weight)
    return _without_crowd(out)


def refined(picture: Tensor, rough: Tensor) -> Tensor:
    """(H, W) alpha of (H, W, 3) sRGB and rough coverage: solved at `SIZE`, brought to full size by what colours say."""
    height, width = picture.shape[:2]
    size = within((height, width), SIZE, 8)
    small, said = resized(picture, *size), resized(rough[..., None], *size)[..., 0]
    pixel = max(size) / COVERAGE
    sure = _shrunk(said > 0.9, INNER * pixel)
    open_ = ~_grown(said > 0.1, OUTER * pixel)
    alpha = _closed_form(small.numpy(), said.numpy(), sure.numpy(), open_.numpy())
    alpha = torch.from_numpy(alpha).clamp(0, 1)
    if max(height, width) > SIZE:
        alpha = _guided(picture, small, alpha)
    band = resized((~(sure | open_)).float()[..., None], height, width)[..., 0] > 0
    alpha = torch.where(band, alpha, (resized(said[..., None], height, width)[..., 0] > 0.5).float())
    # Colours seldom agree to the last percent; nobody is a veil over all of the edge.
    return ((alpha - 0.03) / 0.94).clamp(0, 1)


def _closed_form(picture: np.ndarray, said: np.ndarray, sure: np.ndarray, open_: np.ndarray) -> np.ndarray:
    """(h, w) alpha: 1 where sure, 0 where open, elsewhere by colour lines in small windows (Levin et al. 2008)."""
    from scipy.sparse import coo_matrix, diags_array
    from scipy.sparse.linalg import spsolve

    height, width = said.shape
    unknown = ~(sure | open_)
    alpha = np.where(sure, 1.0, 0.0)
    if not unknown.any():
        return alpha.astype(np.float32)
    side = 2 * WINDOW + 1
    views = np.lib.stride_tricks.sliding_window_view
    touched = views(unknown, (side, side)).any((2, 3))
    index = views(np.arange(height * width).reshape(height, width), (side, side))[touched].reshape(-1, side * side)
    colors = picture.reshape(-1, 3).astype(np.float64)[index]
    away = colors - colors.mean(1, keepdims=True)
    spread = np.einsum("nki,nkj->nij", away, away) / side**2 + EPSILON / side**2 * np.eye(3)
    alike = (1 + np.einsum("nki,nij,nlj->nkl", away, np.linalg.inv(spread), away)) / side**2
    rows, columns = np.repeat(index, side * side, 1).ravel(), np.tile(index, (1, side * side)).ravel()
    likeness = coo_matrix((alike.ravel(), (rows, columns)), (height * width, height * width)).tocsr()
    laplacian = diags_array(np.asarray(likeness.sum(1)).ravel()).tocsr() - likeness
    free, held = unknown.ravel().nonzero()[0], (~unknown).ravel().nonzero()[0]
    system = laplacian[free]
    right = TRUST * said.ravel()[free] - system[:, held] @ alpha.ravel()[held]
    found = spsolve((system[:, free] + TRUST * diags_array(np.ones(len(free)))).tocsc(), right)
    alpha.ravel()[free] = found
    return alpha.astype(np.float32)


def _guided(picture: Tensor, small: Tensor, alpha: Tensor, reach: int = 3) -> Tensor:
    """(H, W) alpha of full size: linear in colour, by coefficients of windows of the small one (He and Sun, Fast Guided
    Filter, 2015)."""
    mean = _mean(torch.cat([small, alpha[..., None], small * alpha[..., None]], -1), reach)
    color, mixed = mean[..., :3], mean[..., 4:] - mean[..., :3] * mean[..., 3:4]
    outer = _mean((small[..., :, None] * small[..., None, :]).flatten(-2), reach).unflatten(-1, (3, 3))
    spread = outer - color[..., :, None] * color[..., None, :] + 1e-4 * torch.eye(3)
    slope = torch.linalg.solve(spread, mixed[..., None])[..., 0]
    shift = mean[..., 3] - (slope * color).sum(-1)
    lines = resized(_mean(torch.cat([slope, shift[..., None]], -1), reach), *picture.shape[:2])
    return (lines[..., :3] * picture).sum(-1) + lines[..., 3]


def _unmixed(picture: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """(H, W, 3) sRGB of what is in front and of what is behind: means of what is near and of the same kind, corrected
    so that they mix to the picture (Forte, Approximate Fast Foreground Colour Estimation, ICIP 2021)."""
    front = behind = picture
    share = alpha[..., None]
    # Colours of what is nearly pure count most: mixed ones are what is to be undone.
    pure, bare = share**3, (1 - share) ** 3
    for reach in (max(2, max(alpha.shape) // 20), 4):
        near = _mean(torch.cat([front * pure, behind * bare, pure, bare], -1), reach)
        # Where the reach sees nothing of a kind, what was there stands.
        mean = torch.where(near[..., 6:7] > 1e-3, near[..., :3] / near[..., 6:7].clamp_min(1e-4), front)
        behind = torch.where(near[..., 7:] > 1e-3, near[..., 3:6] / near[..., 7:].clamp_min(1e-4), behind).clamp(0, 1)
        front = (mean + share * (picture - share * mean - (1 - share) * behind)).clamp(0, 1)
    behind = torch.where(share > LEAST, behind, picture)
    # The nearest colours that mix to the picture exactly.
    left = (picture - torch.lerp(behind, front, share)) / (share.square() + (1 - share).square())
    behind = (behind + (1 - share) * left).clamp(0, 1)
    front = torch.where(share > LEAST, (picture - (1 - share) * behind) / share.clamp_min(LEAST), picture).clamp(0, 1)
    own = (picture - share * front) / (1 - share).clamp_min(LEAST)
    return front, torch.where(share < 1 - LEAST, own, behind).clamp(0, 1)


def _mean(values: Tensor, reach: int) -> Tensor:
    """(H, W, C) of boxes of 2 reach + 1 pixels."""
    from scipy.ndimage import uniform_filter

    side = 2 * reach + 1
    return torch.from_numpy(uniform_filter(values.numpy(), (side, side, 0), mode="nearest"))  # type: ignore[arg-type]


def _grown(mask: Tensor, reach: float) -> Tensor:
    from scipy.ndimage import distance_transform_edt

    if not bool(mask.any()):
        return mask
    far: np.ndarray = distance_transform_edt(~mask.numpy())  # type: ignore[assignment]
    return torch.from_numpy(far <= reach)


def _shrunk(mask: Tensor, reach: float) -> Tensor:
    return ~_grown(~mask, reach)


def _without_crowd(rough: Tensor) -> Tensor:
    from scipy.ndimage import label

    parts: np.ndarray = label(rough.numpy() > 0.5)[0]  # type: ignore[index]
    if parts.max() < 2:
        return rough
    sizes = np.bincount(parts.ravel())[1:]
    gone = np.isin(parts, 1 + np.nonzero(sizes < SMALL * sizes.max())[0])
    return torch.where(_grown(torch.from_numpy(gone), max(rough.shape) / COVERAGE) & (rough <= 0.5)
                       | torch.from_numpy(gone), 0.0, rough)  # fmt: skip
