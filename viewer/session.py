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
from relight.geometry.transforms import rotation_from_quaternion
from relight.scene import Scene

from .content import MESH
from .display import ESTIMATED, PHOTOGRAPHED, Display, Shared, finite
from .page import Page
from .painter import Painter
from .panel import Panel
from .photos import nearest
from .renderer import Request
from .selection import Selection
from .split import Beside
from .viewpoint import Viewpoint

if TYPE_CHECKING:
    from .app import App, Shown

QUALITY = {"quick": 60, "full": 85, "refined": 92}


class Session:
    """Lives as long as a browser's connection.  Its methods are called from several threads."""

    def __init__(self, app: App, client: Any):
        self.app, self.client = app, client
        self.display = Display()
        self.name, self.beside = app.first, ""
        self.viewpoint = Viewpoint(client, lambda: self.scene)
        self.selection = Selection(lambda: self.shown, self.viewpoint.camera, self._selected, self.say)
        self.keys: list[Camera] = []
        self.pictures = 0
        self._lock = threading.RLock()
        self._ended = False
        self.panel = Panel(self)
        self.page = Page(self._heard)

    # --- life

    def begin(self) -> None:
        """Place the camera, build the panel, ask for the first picture."""
        self.app.renderer.open(self.client.client_id, self._deliver, self.say)
        self.viewpoint.start(all_cameras=self.with_cameras)
        self.panel.build()
        self.client.camera.on_update(lambda _: self.ask(moving=True))
        self._show_divider()
        self.app.server.open_page(self.client, self.page)
        self.ask(moving=True)
        self.viewpoint.show_cameras(self.with_cameras)
        if self._ended:
            # The browser left in the meantime: what was opened since is closed again.
            self.end()

    def end(self) -> None:
        """The browser is gone."""
        self._ended = True
        self.viewpoint.end()
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
        if shown is not None and shown.document is not None:
            self.selection.keep_for(len(shown.document.gaussians))
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
        if shown is None or shown.document is None:
            return None if shown is None else shown.painter
        return shown.painter.edited(shown.document.gaussians, self.selection.mask)

    def ask(self, *, moving: bool) -> None:
        """For a picture of what is wanted now."""
        if not self._ended:
            self.app.renderer.ask(self.client.client_id, self.request, moving=moving)

    def request(self) -> Request | None:
        """What is wanted now; None if there is nothing to draw yet."""
        painter, camera = self.painter(), self.viewpoint.camera()
        if painter is None or camera is None:
            return None
        other = self.app.shown(self.beside) if self.beside else None
        if other is None and self.display.other is None:
            return Request(painter, camera, self.display)
        return Request(Beside(painter, painter if other is None else other.painter), camera, self.display)

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
        scene, camera = self.scene, self.viewpoint.camera()
        if scene is None or scene.views is None or camera is None:
            return
        self.viewpoint.jump(nearest(scene, camera)[0])
        self.compare_nothing()
        self.change(mode="photo", other="final", divider=0.5)
        self.panel.follow()

    def compare_with_before(self) -> None:
        """The stage before this one left of the divider, meshes with meshes.  Raises RelightError for the first."""
        sources, now = self.app.sources, self.beside or self.name
        mesh = now in sources and sources[now].mesh
        names = [name for name, source in sources.items() if source.mesh == mesh]
        at = names.index(now) if now in names else len(names) - 1
        if at <= 0:
            raise RelightError("there is no stage before this one")
        self._compare(names[at - 1], names[at])

    def compare_with_mesh(self) -> None:
        """The splat left of the divider, the mesh that was made of it right.  Raises RelightError for a stage without
        both."""
        names, now = self.app.names(), (self.beside or self.name or "").removesuffix(MESH)
        if now not in names or now + MESH not in names:
            both = [name for name in names if name + MESH in names]
            if not both:
                raise RelightError("there is no stage with both a splat and a mesh")
            now = both[-1]
        self._compare(now, now + MESH)

    def _compare(self, left: str, right: str) -> None:
        self.show(left)
        self.compare(right)
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
            self.name = name
            self.selection.forget()
        self._show_divider()
        self.refresh()

    def _deliver(self, picture: Tensor, stage: str) -> None:
        if self._ended:
            return
        self.client.scene.set_background_image(to_bytes(picture), format="jpeg", jpeg_quality=QUALITY[stage])
        self.client.flush()
        self.pictures += 1
        self.panel.status(f"{picture.shape[1]} x {picture.shape[0]}, {stage}")
        self.page.show(view=self.shared())

    def say(self, text: str, *, title: str = "relight") -> None:
        """A note in the corner."""
        self.client.add_notification(title, text, auto_close_seconds=8.0)

    def _selected(self) -> None:
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
        self.viewpoint.place(Camera.from_fov(pose, 1.0, 2, 2), found.distance, found.fov)
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
