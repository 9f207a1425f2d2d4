"""The tab of light: surroundings, exposure, lamps."""

from __future__ import annotations

import html
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from relight.errors import RelightError
from relight.shading.environment import Environment
from relight.shading.tonemap import CURVES

from .display import ESTIMATED, PHOTOGRAPHED, Lamp
from .lights import thumbnail

if TYPE_CHECKING:
    from .session import Session

DARK = "none"
TURN_SECONDS = 12.0
"""Of one turn of the light."""
_GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(88px,1fr));gap:8px;padding:4px 10px"


class LightTab:
    """Of one session."""

    def __init__(self, session: Session):
        self.session, self.gui = session, session.client.gui
        self._lamps: dict[int, list[Any]] = {}
        self._next = 0
        self._orbiting = threading.Event()
        self._estimated: tuple[Environment, str] | None = None
        self._broken: set[str] = set()
        self._built = False

    def build(self) -> None:
        """All of it."""
        gui, session = self.gui, self.session
        self._environment = gui.add_dropdown("Light", self._names())
        self._environment.on_update(lambda e: self._choose(e.target.value))
        self._gallery = gui.add_html(self._cells())
        upload = gui.add_upload_button("Load .hdr or .exr", mime_type=".hdr,.exr,image/*", color="gray")
        upload.on_upload(lambda e: self._upload(e.target.value.name, e.target.value.content))
        self._rotation = gui.add_slider("Rotation", -180.0, 180.0, 1.0, 0.0, hint="or hold Alt and drag in the picture")
        self._rotation.on_update(lambda e: session.relight(rotation=float(e.target.value)))
        self._orbit = gui.add_checkbox("Orbit", False, hint="the light goes round")
        self._orbit.on_update(lambda e: self._animate(bool(e.target.value)))
        self._exposure = gui.add_slider("Exposure", -6.0, 6.0, 0.1, 0.0)
        self._exposure.on_update(lambda e: session.relight(exposure=float(e.target.value)))
        self._curve = gui.add_dropdown("Tone curve", tuple(CURVES), initial_value="clip")
        self._curve.on_update(lambda e: session.relight(curve=e.target.value, moving=False))
        self._shadows = gui.add_checkbox("Shadows", True)
        self._shadows.on_update(lambda e: session.relight(shadows=bool(e.target.value), moving=False))
        gui.add_button("Add point light", color="gray").on_click(lambda _: self._add("point"))
        gui.add_button("Add sun", color="gray").on_click(lambda _: self._add("sun"))
        self._list = gui.add_folder(None)
        self._built = True

    def end(self) -> None:
        """No more animation."""
        self._orbiting.clear()

    def follow(self) -> None:
        """Show what the display says; lamps are built anew if they differ."""
        if not self._built:
            return
        lighting = self.session.display.lighting
        wanted = lighting.environment or DARK
        if self._environment.value != wanted and wanted in self._environment.options:
            self._environment.value = wanted
        self._show_cells()
        for handle, value in (
            (self._rotation, lighting.rotation), (self._exposure, lighting.exposure),
            (self._curve, lighting.curve), (self._shadows, lighting.shadows),
        ):  # fmt: skip
            if handle.value != value:
                handle.value = value
        if len(lighting.lamps) != len(self._lamps):
            for handles in list(self._lamps.values()):
                for handle in handles:
                    handle.remove()
            self._lamps = {}
            for i, lamp in enumerate(lighting.lamps):
                self._build_lamp(i, lamp)

    def _names(self) -> tuple[str, ...]:
        return (PHOTOGRAPHED, ESTIMATED, *self.session.app.library.names(), DARK)

    def choose(self, name: str) -> None:
        """A light by its name; others are ignored."""
        if name in self._environment.options:
            self._environment.value = name

    def _choose(self, name: str) -> None:
        self.session.relight(environment="" if name == DARK else name, moving=False)
        self._show_cells()

    def _cells(self) -> str:
        """The lights that have a picture, for page.js to make them clickable."""
        library, scene = self.session.app.library, self.session.scene
        chosen = self.session.display.lighting.environment
        cells = []
        light = None if scene is None or scene.light is None else scene.light.of_world
        if light is not None:
            if self._estimated is None or self._estimated[0] is not light:
                self._estimated = light, thumbnail(light)
            cells.append(_cell(ESTIMATED, self._estimated[1], chosen))
        for name in library.names():
            try:
                cells.append(_cell(name, library.thumbnail(name), chosen))
            except RelightError as error:
                if name not in self._broken:
                    self._broken.add(name)
                    self.session.say(str(error))
        return f'<div style="{_GRID}">{"".join(cells)}</div>'

    def _show_cells(self) -> None:
        cells = self._cells()
        if self._gallery.content != cells:
            self._gallery.content = cells

    def _upload(self, file_name: str, content: bytes) -> None:
        try:
            name = self.session.app.library.add(file_name, content)
        except RelightError as error:
            # The file has another name here than where the user has it.
            self.session.say(f"{file_name}: {error}")
            return
        for session in list(self.session.app.sessions.values()):
            session.panel.light.lights_changed()
        self.choose(name)

    def lights_changed(self) -> None:
        """The library has another light."""
        if self._built:
            value = self._environment.value
            self._environment.options = self._names()
            self._environment.value = value
            self._show_cells()

    def _animate(self, on: bool) -> None:
        """One turn every `TURN_SECONDS`, as fast as pictures are drawn."""
        if not on:
            self._orbiting.clear()
            return
        if self._orbiting.is_set():
            return
        self._orbiting.set()
        threading.Thread(target=self._turn, name="relight-viewer-orbit", daemon=True).start()

    def _turn(self) -> None:
        pictures, step = -1, 0.1
        while self._orbiting.is_set() and self.session.sleep(step):
            if self.session.pictures == pictures:
                continue  # the last one is not drawn yet
            pictures = self.session.pictures
            rotation = self.session.display.lighting.rotation + 360 * step / TURN_SECONDS
            self.session.relight(rotation=(rotation + 180) % 360 - 180)
        self._orbiting.clear()

    # --- lamps

    def _add(self, kind: str) -> None:
        session, scene = self.session, self.session.scene
        if scene is None:
            return
        up = torch.tensor(scene.frame.up or (0.0, -1.0, 0.0))
        camera = session.viewpoint.camera()
        side = torch.zeros(3) if camera is None else camera.world_from_camera[:3, 0]
        forward = torch.zeros(3) if camera is None else camera.forward
        place = torch.tensor(scene.frame.center) + 0.3 * scene.frame.radius * (up + 0.7 * side - 0.7 * forward)
        lamp = Lamp(kind, tuple(place.tolist()), strength=3.0 if kind == "sun" else 1.0)  # type: ignore[arg-type]
        lamps = (*session.display.lighting.lamps, lamp)
        self._build_lamp(len(lamps) - 1, lamp)
        session.relight(lamps=lamps, moving=False)

    def _build_lamp(self, index: int, lamp: Lamp) -> None:
        """A folder of controls and a gizmo.  The number in their callbacks is the lamp's place in the list."""
        gui, session, scene = self.gui, self.session, self.session.scene
        assert scene is not None
        self._next += 1
        # Callbacks run outside of every tab: without the list it would be shown below all of them.
        with self._list:
            folder = gui.add_folder(f"{'Sun' if lamp.kind == 'sun' else 'Point light'} {index + 1}")
        with folder:
            strength = gui.add_slider("Strength", 0.0, 20.0, 0.1, min(lamp.strength, 20.0))
            color = gui.add_rgb("Colour", tuple(round(255 * c) for c in lamp.color))
            remove = gui.add_button("Remove", color="gray")
        gizmo = session.client.scene.add_transform_controls(
            f"/lamps/{self._next}", scale=0.15 * scene.frame.radius, disable_rotations=True, position=lamp.place,
            depth_test=False,
        )  # fmt: skip
        self._lamps[index] = [folder, gizmo]
        strength.on_update(lambda e: self._change(index, strength=float(e.target.value)))
        color.on_update(lambda e: self._change(index, color=tuple(c / 255 for c in e.target.value)))
        gizmo.on_update(lambda e: self._change(index, place=tuple(map(float, e.target.position))))
        remove.on_click(lambda _: self._remove(index))

    def _change(self, index: int, **values: Any) -> None:
        lamps = self.session.display.lighting.lamps
        if index < len(lamps):
            changed = replace(lamps[index], **values)
            self.session.relight(lamps=(*lamps[:index], changed, *lamps[index + 1 :]))

    def _remove(self, index: int) -> None:
        lamps = self.session.display.lighting.lamps
        self.session.relight(lamps=(*lamps[:index], *lamps[index + 1 :]), moving=False)
        self.follow()


def _cell(name: str, picture: str, chosen: str) -> str:
    label = html.escape(name)
    outline = "outline:2px solid #e8963c;" if name == chosen else ""
    return (
        f'<div data-relight-light="{label}" title="{label}" style="min-width:0">'
        f'<img src="{picture}" style="width:100%;display:block;border-radius:4px;{outline}">'
        f'<div style="font-size:11px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap">{label}</div></div>'
    )
