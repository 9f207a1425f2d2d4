"""One client: where its camera is, what it wants to see, and what it is sent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relight.errors import RelightError
from relight.export.images import to_bytes
from relight.geometry.camera import Camera
from relight.geometry.transforms import quaternion_from_rotation, rotation_from_quaternion
from relight.scene import Scene

from .display import ESTIMATED, PHOTOGRAPHED, Display, Shared, finite
from .document import box, pick
from .page import Page
from .painter import Beside, Painter
from .panel import Panel
from .renderer import Request

if TYPE_CHECKING:
    from .app import App, Shown

LONGEST = 1280
"""Pixels of the longer side of a full picture."""
QUALITY = {"quick": 60, "full": 85, "refined": 92}
THUMBNAIL = 128
"""Pixels of the longer side of the photographs in the frustums."""
MOST_FRUSTUMS = 200


class Session:
    """Lives as long as a browser's connection.  Its methods are called from several threads."""

    def __init__(self, app: App, client: Any):
        self.app, self.client = app, client
        self.display = Display()
        self.name, self.beside = app.first, ""
        self.selected: Tensor | None = None
        self.keys: list[Camera] = []
        self.kind = ""
        self.pictures = 0
        self._lock = threading.RLock()
        self._frustums: list[Any] = []
        self._ended = False
        self.panel = Panel(self)
        self.page = Page(self._heard)

    # --- life

    def begin(self) -> None:
        """Place the camera, build the panel, ask for the first picture."""
        self.app.renderer.open(self.client.client_id, self._deliver, self.say)
        self.look_from_start()
        self.panel.build()
        self.client.camera.on_update(lambda _: self.ask(moving=True))
        self._show_divider()
        self.app.server.open_page(self.client, self.page)
        self.ask(moving=True)
        self.show_cameras(self.with_cameras)
        if self._ended:
            # The browser left in the meantime: what was opened since is closed again.
            self.end()

    def end(self) -> None:
        """The browser is gone."""
        self._ended = True
        self.panel.end()
        self.app.server.pages.remove(self.page)
        self.app.renderer.close(self.client.client_id)

    def tell(self) -> None:
        """News of the fit."""
        if not self._ended:
            self.panel.tell()

    def refresh(self) -> None:
        """The scene changed, the view did not."""
        if self._ended:
            return
        shown = self.shown
        if self.selected is not None and (shown is None or len(self.selected) != len(shown.document.gaussians)):
            self.selected = None
        self.panel.follow()
        self.ask(moving=False)

    # --- what is shown

    @property
    def shown(self) -> Shown | None:
        """None while a fit has given nothing yet."""
        return None if self.name is None else self.app.shown(self.name)

    @property
    def scene(self) -> Scene | None:
        """The scene, or as long as a fit has none, what was captured."""
        shown = self.shown
        if shown is not None:
            return shown.content.scene
        return None if self.app.live is None else self.app.live.captured

    @property
    def with_cameras(self) -> bool:
        """Whether cameras are what there is to see at first."""
        shown = self.shown
        return self.app.live is None and shown is not None and shown.content.captured

    def painter(self) -> Painter | None:
        """What draws for this client, with all edits and its selection."""
        shown = self.shown
        return None if shown is None else shown.painter.edited(shown.document.gaussians, self.selected)

    def camera(self) -> Camera | None:
        """Of the browser's window; None before it has said anything, and for nonsense."""
        c = self.client.camera
        wxyz, position = torch.tensor(list(c.wxyz)).float(), torch.tensor(list(c.position)).float()
        numbers = torch.cat([wxyz, position, torch.tensor([float(c.fov)])])
        if not bool(torch.isfinite(numbers).all()) or float(wxyz.norm()) < 1e-6 or not 1e-3 < float(c.fov) < 3.1:
            return None
        height, width = c.image_height, c.image_width
        if not (isinstance(height, int) and isinstance(width, int) and 0 < height < 1 << 15 and 0 < width < 1 << 15):
            return None
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_from_quaternion(wxyz), position
        scale = min(1.0, LONGEST / max(height, width))
        return Camera.from_fov(pose, float(c.fov), max(1, round(width * scale)), max(1, round(height * scale)))

    def ask(self, *, moving: bool) -> None:
        """For a picture of what is wanted now."""
        if not self._ended:
            self.app.renderer.ask(self.client.client_id, self.request, moving=moving)

    def request(self) -> Request | None:
        """What is wanted now; None if there is nothing to draw yet."""
        painter, camera = self.painter(), self.camera()
        if painter is None or camera is None:
            return None
        other = self.app.shown(self.beside) if self.beside else None
        if other is not None:
            return Request(Beside(painter, other.painter), camera, self.display)
        return Request(painter, camera, self.display)

    def change(self, moving: bool = True, **values: Any) -> None:
        """Of the display."""
        with self._lock:
            self.display = replace(self.display, **values)
        self._show_divider()
        self.ask(moving=moving)

    def compare(self, name: str) -> None:
        """Another scene right of the divider; "" for the same.  Raises RelightError."""
        if name:
            self.app.shown(name)
        self.beside = name
        self._show_divider()
        self.ask(moving=False)

    def compare_with_photo(self) -> None:
        """The photograph left of the divider, what is rendered right of it, from where the nearest one was taken."""
        scene, camera = self.scene, self.camera()
        if scene is None or scene.views is None or camera is None:
            return
        poses = torch.stack([view.camera.world_from_camera for view in scene.views])
        apart = (poses[:, :3, 3] - camera.position).norm(dim=1) / scene.frame.radius
        self.jump(int((apart + (poses[:, :3, 2] - camera.forward).norm(dim=1)).argmin()))
        self.compare_nothing()
        self.change(mode="photo", other="final", divider=0.5)
        self.panel.follow()

    def compare_with_before(self) -> None:
        """The stage before this one left of the divider.  Raises RelightError for the first."""
        names, now = list(self.app.folders), self.beside or self.name
        at = names.index(now) if now in names else len(names) - 1
        if at == 0:
            raise RelightError("there is no stage before this one")
        self.show(names[at - 1])
        self.compare(names[at])
        self.change(other=None, divider=0.5)
        self.panel.follow()

    def compare_nothing(self) -> None:
        """One picture, of what is right of the divider if that is another stage."""
        if self.beside:
            self.show(self.beside)
        self.beside = ""
        self.change(mode="final" if self.display.mode == "photo" else self.display.mode, other=None)
        self.panel.follow()

    def relight(self, moving: bool = True, **values: Any) -> None:
        """Of the light."""
        with self._lock:
            self.display = replace(self.display, lighting=replace(self.display.lighting, **values))
        self.ask(moving=moving)

    def show(self, name: str) -> None:
        """Another stage.  Raises RelightError."""
        self.app.shown(name)
        with self._lock:
            self.name, self.selected = name, None
        self._show_divider()
        self.refresh()

    def _deliver(self, picture: Tensor, stage: str) -> None:
        if self._ended:
            return
        self.client.scene.set_background_image(to_bytes(picture), format="jpeg", jpeg_quality=QUALITY[stage])
        self.client.flush()
        self.kind, self.pictures = stage, self.pictures + 1
        self.panel.status(f"{picture.shape[1]} x {picture.shape[0]}, {stage}")
        self.page.show(view=self.shared())

    def say(self, text: str, *, title: str = "relight") -> None:
        """A note in the corner."""
        self.client.add_notification(title, text, auto_close_seconds=8.0)

    # --- the camera

    def look_from_start(self) -> None:
        """From the first photograph, or from a little above at a splat without any."""
        scene = self.scene
        if scene is None:
            return
        up = scene.frame.up or (0.0, -1.0, 0.0)
        center, direction = torch.tensor(scene.frame.center), torch.tensor(up)
        distance = 2.5 * scene.frame.radius
        if scene.views is not None and len(scene.views):
            if not self.with_cameras:
                self.jump(0)
                return
            # All cameras, which are what there is to see.
            places = torch.stack([view.camera.position for view in scene.views])
            distance = max(distance, 2.2 * float((places - center).norm(dim=1).max()))
        side = torch.linalg.cross(direction, torch.eye(3)[int(direction.abs().argmin())])
        offset = torch.nn.functional.normalize(torch.nn.functional.normalize(side, dim=0) + 0.4 * direction, dim=0)
        with self.client.atomic():
            self.client.camera.up_direction = up
            self.client.camera.position = tuple((center + distance * offset).tolist())
            self.client.camera.look_at = scene.frame.center

    def jump(self, index: int) -> None:
        """To where a photograph was taken."""
        scene = self.scene
        if scene is None or scene.views is None:
            return
        camera = scene.views.camera(index)
        depth = (torch.tensor(scene.frame.center) - camera.position) @ camera.forward
        distance = float(depth) if float(depth) > 0.05 * scene.frame.radius else scene.frame.radius
        with self.client.atomic():
            self.client.camera.fov = camera.fov_y
            self.place(camera, distance)

    def place(self, camera: Camera, distance: float) -> None:
        """Move the browser's camera; it will turn about what is `distance` ahead, world units."""
        right, own = camera.world_from_camera[:3, 0], -camera.world_from_camera[:3, 1]
        scene = self.scene
        up = own if scene is None or scene.frame.up is None else torch.tensor(scene.frame.up)
        # The scene's up as nearly as the camera's roll allows, so that dragging keeps the horizon.
        up = up - (up @ right) * right
        up = own if float(up @ own) < 0.05 else up / up.norm()
        self.client.camera.up_direction = tuple(up.tolist())
        self.client.camera.position = tuple(camera.position.tolist())
        self.client.camera.look_at = tuple((camera.position + distance * camera.forward).tolist())

    def show_cameras(self, visible: bool) -> None:
        """Frustums with their photographs; a click jumps in."""
        for handle in self._frustums:
            handle.remove()
        self._frustums = []
        scene = self.scene
        if not visible or scene is None or scene.views is None:
            return
        every = max(1, math.ceil(len(scene.views) / MOST_FRUSTUMS))
        places = torch.stack([view.camera.position for view in scene.views])[::every]
        apart = torch.cdist(places, places).fill_diagonal_(torch.inf).min(1).values.median()
        # Neighbours shall not hide each other, nor the scene.
        size = float(torch.tensor(0.05 * scene.frame.radius).minimum(0.4 * apart))
        for i in range(0, len(scene.views), every):
            lens = scene.views.camera(i)
            scale = min(1.0, THUMBNAIL / max(lens.width, lens.height))
            camera, photo = scene.views.camera(i, scale), scene.views.photo(i, scale)
            if self._ended:
                return
            rgb = photo.rgb if photo.alpha is None else photo.rgb * photo.alpha[..., None]
            handle = self.client.scene.add_camera_frustum(
                f"/cameras/{i:04d}", camera.fov_y, camera.width / camera.height, scale=size,
                thickness=1.5, thickness_units="screen",
                image=to_bytes(rgb), format="jpeg", jpeg_quality=70, color=(230, 150, 60),
                wxyz=quaternion_from_rotation(camera.world_from_camera[:3, :3]).numpy(),
                position=camera.position.numpy(),
            )  # fmt: skip
            handle.on_click(lambda _, index=i: self.jump(index))
            self._frustums.append(handle)

    # --- selecting

    def click(self, x: float, y: float, *, reach: float, how: str) -> None:
        """Select what is at (x, y), 0 to 1.  reach: scene radii.  how: "replace", "add" or "subtract"."""
        shown, camera = self.shown, self.camera()
        if shown is None or camera is None:
            return
        extent = shown.content.scene.frame.radius
        found = pick(shown.document.gaussians, camera, x, y, reach=reach * extent, extent=extent)
        self._select(found & shown.document.kept, how)

    def drag(self, low: tuple[float, float], high: tuple[float, float], *, through: bool, how: str) -> None:
        """Select what is within a rectangle, corners 0 to 1."""
        shown, camera = self.shown, self.camera()
        if shown is None or camera is None:
            return
        extent = shown.content.scene.frame.radius
        found = box(shown.document.gaussians, camera, low, high, through=through, extent=extent)
        self._select(found & shown.document.kept, how)

    def _select(self, found: Tensor, how: str) -> None:
        before = torch.zeros_like(found) if self.selected is None else self.selected
        self.selected = {"replace": found, "add": before | found, "subtract": before & ~found}[how]
        self.panel.follow()
        self.ask(moving=False)

    # --- sharing

    def shared(self) -> str:
        """The view as text."""
        c = self.client.camera
        wxyz, position, target = (tuple(map(float, values)) for values in (c.wxyz, c.position, c.look_at))
        distance = math.dist(position, target) or 1.0
        return Shared(self.display, wxyz, position, distance, float(c.fov), self.name or "", self.beside).to_text()  # type: ignore[arg-type]

    def restore(self, text: str) -> None:
        """A view from text, as far as what it shows is here.  Raises RelightError."""
        found, app = Shared.from_text(text), self.app
        display, light = found.display, found.display.lighting.environment
        missing = {name for name in (found.name, found.beside) if name not in ("", *app.names())}
        if light not in ("", PHOTOGRAPHED, ESTIMATED, *app.library.names()):
            missing.add(light)
            display = replace(display, lighting=replace(display.lighting, environment=PHOTOGRAPHED))
        if missing:
            self.say(f"Not here, and left out: {', '.join(sorted(missing))}", title="The link shows more")
        if found.name not in ("", self.name, *missing):
            self.show(found.name)
        beside = "" if found.beside in missing else found.beside
        if beside:
            app.shown(beside)
        with self._lock:
            self.display, self.beside = display, beside
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_from_quaternion(torch.tensor(found.wxyz)), torch.tensor(found.position)
        with self.client.atomic():
            self.client.camera.fov = found.fov
            self.place(Camera.from_fov(pose, 1.0, 2, 2), found.distance)
        self._show_divider()
        self.panel.follow()
        self.ask(moving=True)

    # --- the page around the picture

    def _show_divider(self) -> None:
        display, beside = self.display, self.beside
        if display.other is None and not beside:
            self.page.show(divider=None)
            return
        sides = [(self.name or "", display.mode), (beside or self.name or "", display.other or display.mode)]
        if not beside or sides[0][0] == sides[1][0]:
            left, right = (mode for _, mode in sides)
        elif sides[0][1] == sides[1][1]:
            left, right = (name for name, _ in sides)
        else:
            left, right = (f"{name}: {mode}" for name, mode in sides)
        left, right = left.replace("_", " "), right.replace("_", " ")
        self.page.show(divider=display.divider, left=left, right=right)

    def _heard(self, message: Mapping[str, Any]) -> None:
        """What page.js says.  Raises ValueError or TypeError for nonsense."""
        if self._ended:
            return
        try:
            match message:
                case {"divider": float() | int() as share}:
                    self.page.told(divider=share)
                    self.change(divider=max(0.0, min(1.0, finite(share))))
                case {"turn": float() | int() as degrees}:
                    rotation = self.display.lighting.rotation + finite(degrees)
                    self.relight(rotation=(rotation + 180) % 360 - 180)
                    self.panel.follow()
                case {"light": str(name)}:
                    self.panel.light.choose(name)
                case {"view": str(text)}:
                    self.restore(text)
                case {"copied": bool(done)}:
                    self.say("Link copied" if done else "This browser gives no clipboard: copy the address bar")
                case _:
                    raise ValueError("no such message")
        except RelightError as error:
            self.say(str(error))

    def sleep(self, seconds: float) -> bool:
        """Wait; False once the client is gone."""
        time.sleep(seconds)
        return not self._ended
