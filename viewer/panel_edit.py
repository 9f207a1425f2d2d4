"""The tab of selecting and changing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from relight.errors import RelightError
from relight.formats import write_splat
from relight.shading.color import srgb_to_linear

from .content import save_selection

if TYPE_CHECKING:
    from torch import Tensor

    from .document import Document
    from .session import Session

TOOLS = ("look around", "click", "box")


class EditTab:
    """Of one session."""

    def __init__(self, session: Session):
        self.session, self.gui = session, session.client.gui
        self._built = False

    def build(self) -> None:
        """All of it."""
        gui = self.gui
        self._tool = gui.add_dropdown("Tool", TOOLS, hint="box: drag in the picture")
        self._tool.on_update(lambda e: self._use(e.target.value))
        self._how = gui.add_dropdown(
            "Selection", ("replace", "add", "subtract"), hint="what becomes of what was selected before"
        )
        self._reach = gui.add_slider("Reach of a click", 0.005, 0.5, 0.005, 0.03, hint="in scene radii")
        self._through = gui.add_checkbox("Box takes what is behind", False)
        self._count = gui.add_markdown("Nothing selected")
        self._button("Clear selection", lambda: self._clear())
        with gui.add_folder("Change"):
            self._color = gui.add_rgb("Colour", (200, 60, 40))
            self._button("Recolour", self._recolor)
            self._roughness = gui.add_slider("Roughness", 0.0, 1.0, 0.01, 0.3)
            self._metallic = gui.add_slider("Metallic", 0.0, 1.0, 0.01, 0.0)
            self._button("Set material", self._material)
            self._buttons("Selected", {"Hide": lambda: self._document.hide(self._chosen()), "Delete": self._delete})
            self._button("Show all", lambda: self._document.show_all())
        self._buttons("Steps", {"Undo": lambda: self._document.undo(), "Redo": lambda: self._document.redo()})
        with gui.add_folder("Take away"):
            self._button("Download selection as PLY", lambda: self._download(self._chosen(), "selection.ply"))
            self._button("Save selection as a scene", self._save)
            self._button("Download all as PLY", lambda: self._download(None, "scene.ply"))
        self._built = True

    def follow(self) -> None:
        """How much is selected."""
        if self._built:
            chosen = self.session.selected
            count = 0 if chosen is None else int(chosen.sum())
            self._count.content = f"{count:,} Gaussians selected" if count else "Nothing selected"

    def _button(self, label: str, act: Callable[[], Any]) -> None:
        self.gui.add_button(label, color="gray").on_click(lambda _: self._do(act))

    def _buttons(self, label: str, acts: Mapping[str, Callable[[], Any]]) -> None:
        self.gui.add_button_group(label, tuple(acts)).on_click(lambda e: self._do(acts[e.target.value]))

    def _do(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except RelightError as error:
            self.session.say(str(error))

    @property
    def _document(self) -> Document:
        shown = self.session.shown
        if shown is None:
            raise RelightError("there is nothing to change yet")
        live = self.session.app.live
        if live is not None and live.running:
            raise RelightError("the fit goes on and would undo it: wait until it has ended")
        return shown.document

    def _chosen(self) -> Tensor:
        chosen = self.session.selected
        if chosen is None or not bool(chosen.any()):
            raise RelightError("nothing is selected: choose the tool click or box first")
        return chosen

    def _clear(self) -> None:
        self.session.selected = None
        self.follow()
        self.session.ask(moving=False)

    def _use(self, tool: str) -> None:
        scene, session = self.session.client.scene, self.session
        scene.remove_click_callback()
        scene.remove_rect_select_callback()
        if tool == "click":

            @scene.on_click()
            def _(event: Any) -> None:
                x, y = event.screen_pos
                session.click(float(x), float(y), reach=float(self._reach.value), how=self._how.value)

        elif tool == "box":

            @scene.on_rect_select()
            def _(event: Any) -> None:
                low, high = tuple(map(float, event.screen_min)), tuple(map(float, event.screen_max))
                session.drag(low, high, through=bool(self._through.value), how=self._how.value)  # type: ignore[arg-type]

    def _recolor(self) -> None:
        linear = srgb_to_linear(torch.tensor(self._color.value) / 255)
        self._document.recolor(self._chosen(), tuple(linear.tolist()))

    def _material(self) -> None:
        self._document.set_material(
            self._chosen(), roughness=float(self._roughness.value), metallic=float(self._metallic.value)
        )

    def _delete(self) -> None:
        self._document.delete(self._chosen())
        self._clear()

    def _save(self) -> None:
        shown = self.session.shown
        if shown is None:
            raise RelightError("there is nothing to take away yet")
        run = save_selection(shown.content, shown.document.extract(self._chosen()))
        self.session.say(f"written: {run}")

    def _download(self, chosen: Tensor | None, name: str) -> None:
        shown = self.session.shown
        if shown is None:
            raise RelightError("there is nothing to take away yet")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write_splat(shown.document.extract(chosen), path)
            self.session.client.send_file_download(name, path.read_bytes(), save_immediately=True)
