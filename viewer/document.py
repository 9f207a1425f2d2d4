"""Selecting Gaussians and changing them, with undo.  No change moves or removes a row, so masks stay valid."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.errors import RelightError
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer, render
from relight.shading.color import linear_to_srgb

STEPS_BACK = 50
GONE = -40.0
"""Logit of the opacity of what is hidden: it is not drawn, and everything else stays in its row."""
FAINT = 0.1
"""Gaussians more transparent than this are not what somebody points at."""


@dataclass(frozen=True)
class _State:
    """gaussians: with their own opacities.  hidden, deleted: (N,) bool."""

    gaussians: Gaussians
    hidden: Tensor
    deleted: Tensor


class Document:
    """One scene's splat and what was done to it.  Usable from several threads; all clients see the same.

    changed: called after every change, without locks held.
    """

    def __init__(self, gaussians: Gaussians, changed: Callable[[], None] = lambda: None):
        nothing = torch.zeros(len(gaussians), dtype=torch.bool)
        self._states, self._at = [_State(gaussians, nothing, nothing)], 0
        self._lock, self._changed = threading.Lock(), changed

    @property
    def _now(self) -> _State:
        return self._states[self._at]

    @property
    def gaussians(self) -> Gaussians:
        """What is drawn: all rows, with those that are hidden or deleted transparent."""
        now = self._now
        away = now.hidden | now.deleted
        if not bool(away.any()):
            return now.gaussians
        return replace(now.gaussians, logit_opacity=now.gaussians.logit_opacity.masked_fill(away, GONE))

    @property
    def visible(self) -> Tensor:
        """(N,) bool: neither hidden nor deleted."""
        return ~(self._now.hidden | self._now.deleted)

    @property
    def kept(self) -> Tensor:
        """(N,) bool: not deleted."""
        return ~self._now.deleted

    @property
    def edited(self) -> bool:
        """Something differs from what was loaded."""
        return self._at > 0

    def extract(self, selected: Tensor | None = None) -> Gaussians:
        """The selected rows, or all, without what is deleted; hidden ones count.  Raises RelightError for none."""
        rows = self.kept if selected is None else self.kept & selected
        if not bool(rows.any()):
            raise RelightError("nothing to extract: select Gaussians first, by a click or a box")
        return self._now.gaussians[rows]

    def hide(self, selected: Tensor) -> None:
        """Not drawn, still written."""
        self._push(replace(self._now, hidden=self._now.hidden | selected))

    def show_all(self) -> None:
        """Nothing is hidden any more."""
        self._push(replace(self._now, hidden=torch.zeros_like(self._now.hidden)))

    def delete(self, selected: Tensor) -> None:
        """Neither drawn nor written."""
        self._push(replace(self._now, deleted=self._now.deleted | selected))

    def recolor(self, selected: Tensor, base_color: tuple[float, float, float]) -> None:
        """base_color: linear.  The material where there is one, and the captured look, with its shading kept."""
        g = self._now.gaussians
        wanted = torch.tensor(base_color)
        look = g.sh.clone()
        shown = sh.C0 * look[selected, 0] + 0.5
        # Brightness relative to the selection's own keeps folds and shadows visible.
        bright = shown.mean(-1, keepdim=True).clamp_min(0.02)
        target = (linear_to_srgb(wanted) * (bright / bright.mean())).clamp(0, 1)
        look[selected, 0] = (target - 0.5) / sh.C0
        look[selected, 1:] = look[selected, 1:].mean(-1, keepdim=True).expand_as(look[selected, 1:])
        channels = dict(g.channels)
        if "base_color" in channels:
            channels["base_color"] = _set(channels["base_color"], selected, wanted)
        self._push(replace(self._now, gaussians=replace(g, sh=look, channels=channels)))

    def set_material(self, selected: Tensor, **values: float) -> None:
        """roughness, metallic: 0 to 1.  What is changed is shown by its material alone.  Raises RelightError."""
        g = self._now.gaussians
        missing = [name for name in values if name not in g.channels]
        if missing:
            raise RelightError(f"{', '.join(missing)}: this splat has no materials; run the stage distill first")
        channels = dict(g.channels)
        for name, value in (values | {"progress": 1.0}).items():
            channels[name] = _set(channels[name], selected, torch.tensor(float(value)))
        self._push(replace(self._now, gaussians=replace(g, channels=channels)))

    def undo(self) -> bool:
        """One step back; False at the start."""
        return self._move(-1)

    def redo(self) -> bool:
        """One step forth; False at the end."""
        return self._move(1)

    def _move(self, by: int) -> bool:
        with self._lock:
            if not 0 <= self._at + by < len(self._states):
                return False
            self._at += by
        self._changed()
        return True

    def _push(self, state: _State) -> None:
        with self._lock:
            self._states = [*self._states[: self._at + 1], state][-STEPS_BACK - 1 :]
            self._at = len(self._states) - 1
        self._changed()


def _set(values: Tensor, selected: Tensor, value: Tensor) -> Tensor:
    out = values.clone()
    out[selected] = value
    return out


def pick(gaussians: Gaussians, camera: Camera, x: float, y: float, *, reach: float, extent: float) -> Tensor:
    """(N,) bool: what is seen at (x, y), 0 to 1 across the picture, and within `reach` world units of that place; at
    least the nearest.

    Nothing where nothing is drawn.  extent: of the scene, world units.
    """
    none = torch.zeros(len(gaussians), dtype=torch.bool)
    near = window(camera, x, y)
    with torch.no_grad():
        image = render(create_rasterizer(), gaussians, near, options=RasterOptions.for_extent(extent))
    depth = image.median_depth[image.median_depth > 0]
    if len(depth) == 0:
        return none
    ray = near.local_rays(torch.tensor([near.width / 2, near.height / 2])) * depth.median()
    place = near.world_from_camera[:3, :3] @ ray + near.position
    distance = (gaussians.means - place).norm(dim=1).masked_fill(gaussians.opacities <= FAINT, torch.inf)
    # What is seen may be the soft edge of a large Gaussian, farther from its centre than the reach.
    return distance < max(reach, 1.001 * float(distance.min()))


def window(camera: Camera, x: float, y: float) -> Camera:
    """A few pixels of a picture around (x, y), 0 to 1: one alone may fall through a gap."""
    side = 5
    column, row = round(x * camera.width - side / 2), round(y * camera.height - side / 2)
    return replace(camera, width=side, height=side, cx=camera.cx - column, cy=camera.cy - row)


def box(
    gaussians: Gaussians, camera: Camera, low: tuple[float, float], high: tuple[float, float], *, through: bool,
    extent: float,
) -> Tensor:  # fmt: skip
    """(N,) bool: centres within a rectangle of the picture (corners 0 to 1).

    through: also what lies behind; otherwise what is seen, within a fiftieth of `extent` of the visible surface.
    """
    pixels, depth = camera.project(gaussians.means)
    size = torch.tensor([camera.width, camera.height])
    inside = ((pixels >= torch.tensor(low) * size) & (pixels <= torch.tensor(high) * size)).all(1) & (depth > 0)
    inside &= gaussians.opacities > FAINT
    if through or not bool(inside.any()):
        return inside
    with torch.no_grad():
        image = render(create_rasterizer(), gaussians, camera, options=RasterOptions.for_extent(extent))
    column = pixels[:, 0].long().clamp(0, camera.width - 1)
    row = pixels[:, 1].long().clamp(0, camera.height - 1)
    front = image.median_depth[row, column]
    return inside & (front > 0) & (depth < front + 0.02 * extent)
