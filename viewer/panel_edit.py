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

from .content import save_selection, write_mesh
from .selection import ALIKE, HOW, NEAR, NO_WORDS, OBJECT, TOUCHING, Click

if TYPE_CHECKING:
    from torch import Tensor

    from .app import Shown
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
        gui, session = self.gui, self.session
        self._tool = gui.add_dropdown("Tool", TOOLS, hint="box: drag in the picture")
        self._tool.on_update(lambda e: self._use(e.target.value))
        self._how = gui.add_dropdown("Selection", HOW, hint="what becomes of what was selected before")
        self._means = gui.add_dropdown(
            "A click means", (NEAR,), hint="things end where surfaces meet and look different"
        )
        self._means.on_update(lambda _: self._follow_clicks())
        self._reach = gui.add_slider("Reach", 0.005, 0.5, 0.005, Click.reach, hint="in scene radii")
        self._step = gui.add_slider("Size", -4, 4, 1, Click.step, hint="more takes in what belongs to it, less a part")
        self._threshold = gui.add_slider("Likeness", 0.0, 1.0, 0.02, Click.threshold, hint="least cosine of features")
        self._through = gui.add_checkbox("Box takes what is behind", False)
        self._words = gui.add_text("Words", "", hint="such as: a wooden chair")
        self._named = gui.add_button("Select what they name", color="gray")
        self._named.on_click(lambda _: self._do(self._select_words))
        self._no_words = gui.add_markdown(f"*{NO_WORDS}*")
        self._count = gui.add_markdown("Nothing selected")
        acts = {"Clear": session.selection.clear, "Back": session.selection.back}
        self._buttons("What is selected", acts)
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
            self._button("Download all", self._download_all)
        self._built = True
        self.follow()

    def follow(self) -> None:
        """How much is selected, and what can select."""
        if not self._built:
            return
        selection = self.session.selection
        count = 0 if selection.mask is None else int(selection.mask.sum())
        self._count.content = f"{count:,} Gaussians selected" if count else "Nothing selected"
        meanings = tuple(selection.meanings())
        if tuple(self._means.options) != meanings:
            self._means.options, self._means.value = meanings, meanings[0]
        words = selection.knows_words()
        self._words.visible = self._named.visible = words
        self._no_words.visible = not words
        self._follow_clicks()

    def _follow_clicks(self) -> None:
        """Only what counts for this meaning of a click is shown."""
        means = self._means.value
        self._means.visible = len(self._means.options) > 1
        self._reach.visible = means == NEAR
        self._step.visible = means == OBJECT
        self._threshold.visible = means in (TOUCHING, ALIKE)

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
        if shown.document is None:
            raise RelightError("this is a mesh: choose a splat under View to select in it and to change it")
        live = self.session.app.live
        if live is not None and live.running:
            raise RelightError("the fit goes on and would undo it: wait until it has ended")
        return shown.document

    def _chosen(self) -> Tensor:
        chosen = self.session.selection.mask
        if chosen is None or not bool(chosen.any()):
            raise RelightError("nothing is selected: choose the tool click or box first")
        return chosen

    def _use(self, tool: str) -> None:
        scene, session = self.session.client.scene, self.session
        scene.remove_click_callback()
        scene.remove_rect_select_callback()
        if tool == "click":

            @scene.on_click()
            def _(event: Any) -> None:
                x, y = event.screen_pos
                click = Click(
                    self._means.value, float(self._reach.value), int(self._step.value), float(self._threshold.value)
                )
                self._do(lambda: session.selection.click(float(x), float(y), click, how=self._how.value))

            session.selection.prepare()
        elif tool == "box":

            @scene.on_rect_select()
            def _(event: Any) -> None:
                low, high = tuple(map(float, event.screen_min)), tuple(map(float, event.screen_max))
                session.selection.drag(low, high, through=bool(self._through.value), how=self._how.value)  # type: ignore[arg-type]

    def _recolor(self) -> None:
        linear = srgb_to_linear(torch.tensor(self._color.value) / 255)
        self._document.recolor(self._chosen(), tuple(linear.tolist()))

    def _material(self) -> None:
        self._document.set_material(
            self._chosen(), roughness=float(self._roughness.value), metallic=float(self._metallic.value)
        )

    def _select_words(self) -> None:
        self.session.selection.words(self._words.value, how=self._how.value)

    def _delete(self) -> None:
        self._document.delete(self._chosen())
        self.session.selection.clear()

    def _save(self) -> None:
        shown, document = self._splat()
        run = save_selection(shown.content, document.extract(self._chosen()))
        self.session.say(f"written: {run}")

    def _splat(self) -> tuple[Shown, Document]:
        """To take away: of a fit that goes on, too."""
        shown = self.session.shown
        if shown is None or shown.document is None:
            raise RelightError("there is no splat to take away" + ("" if shown else " yet"))
        return shown, shown.document

    def _download_all(self) -> None:
        shown = self.session.shown
        if shown is not None and shown.document is None:
            self._send("scene.glb", lambda path: write_mesh(shown.content, path))
        else:
            self._download(None, "scene.ply")

    def _download(self, chosen: Tensor | None, name: str) -> None:
        _, document = self._splat()
        self._send(name, lambda path: write_splat(document.extract(chosen), path))

    def _send(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write(path)
            self.session.client.send_file_download(name, path.read_bytes(), save_immediately=True)
