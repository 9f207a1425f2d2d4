"""What a client sees beside the picture: tabs of controls.  No state of its own beyond the handles."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from relight.errors import RelightError
from relight.export.images import encoded_bytes

from .content import MESH
from .display import BACKGROUNDS, MODES
from .panel_edit import EditTab
from .panel_light import LightTab
from .panel_path import PathTab

if TYPE_CHECKING:
    from .live import Live
    from .session import Session

NONE, SAME = "nothing", "the same scene"


def spoken(session: Session, act: Callable[..., Any]) -> Callable[[Any], None]:
    """A callback of viser whose mistakes the client is told about."""

    @wraps(act)
    def callback(event: Any) -> None:
        try:
            act(event)
        except RelightError as error:
            session.say(str(error))

    return callback


class Panel:
    """Of one session.  build: once, when the client is there.  follow: after the state was changed elsewhere."""

    def __init__(self, session: Session):
        self.session, self.gui = session, session.client.gui
        self.light, self.edit, self.path = LightTab(session), EditTab(session), PathTab(session)
        self.fit: FitTab | None = None if session.app.live is None else FitTab(session, session.app.live)
        self._built = False
        self._told = ""

    def build(self) -> None:
        """All tabs."""
        gui = self.gui
        self._status = gui.add_markdown("connecting")
        tabs = gui.add_tab_group()
        if self.fit is not None:
            with tabs.add_tab("Fit"):
                self.fit.build()
        with tabs.add_tab("View"):
            self._view()
        with tabs.add_tab("Light"):
            self.light.build()
        with tabs.add_tab("Edit"):
            self.edit.build()
        with tabs.add_tab("Film"):
            self.path.build()
        self._built = True
        self.follow()

    def end(self) -> None:
        """The client is gone: nothing is animated any more."""
        self.light.end()

    def status(self, text: str) -> None:
        """Under the title."""
        shown = self.session.shown
        note = "" if shown is None else shown.painter.note or ("" if shown.painter.ready else "working out shadows")
        note = f"  \n{note}" if note else ""
        if self._built and text + note != self._told:
            self._told = text + note
            self._status.content = f"{text}{note}"

    def tell(self) -> None:
        """News of the fit."""
        if self._built and self.fit is not None:
            self.fit.tell()

    def follow(self) -> None:
        """Show what the session's state is."""
        if not self._built:
            return
        session, display = self.session, self.session.display
        shown = session.shown
        modes = list(MODES) if shown is None else shown.painter.modes()
        for handle, first in ((self._mode, []), (self._other, [NONE])):
            if tuple(handle.options) != (*first, *modes):
                value = handle.value
                handle.options = (*first, *modes)
                handle.value = value if value in handle.options else handle.options[0]
        _set(self._mode, display.mode)
        self._meaning.content = f"*{MODES[self._mode.value]}*"
        _set(self._other, display.other or NONE)
        _set(self._background, display.background)
        for handle, first in ((self._name, ()), (self._beside, (SAME,))):
            # A fit that ends may have made a mesh.
            if tuple(handle.options) != (*first, *session.app.names()):
                handle.options = (*first, *session.app.names())
        _set(self._name, session.name)
        _set(self._beside, session.beside or SAME)
        self.light.follow()
        self.edit.follow()

    def _view(self) -> None:
        gui, session = self.gui, self.session
        self._name = gui.add_dropdown("Scene", tuple(session.app.names()), initial_value=session.name)
        self._name.on_update(spoken(session, lambda e: session.show(e.target.value)))
        self._mode = gui.add_dropdown("Mode", tuple(MODES), initial_value="final")
        self._mode.on_update(lambda e: self._choose_mode(e.target.value))
        self._meaning = gui.add_markdown("")
        with gui.add_folder("Compare"):
            quick = gui.add_button_group("Against", _comparisons(session))
            quick.on_click(spoken(session, lambda e: _COMPARISONS[e.target.value](session)))
            self._other = gui.add_dropdown("Right side", (NONE, *MODES), initial_value=NONE)
            self._beside = gui.add_dropdown("of", (SAME, *session.app.names()))
        self._other.on_update(
            lambda e: session.change(other=None if e.target.value == NONE else e.target.value, moving=False)
        )
        self._beside.on_update(
            spoken(session, lambda e: session.compare("" if e.target.value == SAME else e.target.value))
        )
        self._background = gui.add_dropdown("Background", BACKGROUNDS)
        self._background.on_update(lambda e: session.change(background=e.target.value, moving=False))
        with gui.add_folder("Photographs"):
            scene = session.scene
            count = 0 if scene is None or scene.views is None else len(scene.views)
            cameras = gui.add_checkbox("Show cameras", session.with_cameras, hint="click one to jump in")
            cameras.on_update(lambda e: session.viewpoint.show_cameras(e.target.value))
            if count > 1:
                number = gui.add_slider("Jump to", 1, count, 1, 1)
                number.on_update(lambda e: session.viewpoint.jump(int(e.target.value) - 1))
        with gui.add_folder("Take away"):
            gui.add_button("Screenshot", icon=None).on_click(spoken(session, lambda _: self._screenshot()))
            link = gui.add_button(
                "Copy link", color="gray", hint="to this view, with its light; the address bar has it too"
            )
            link.on_click(lambda _: session.page.do(copy=session.shared()))

    def _choose_mode(self, mode: str) -> None:
        self._meaning.content = f"*{MODES[mode]}*"
        self.session.change(mode=mode, moving=False)

    def _screenshot(self) -> None:
        request = self.session.request()
        if request is None:
            raise RelightError("nothing to take a picture of yet")
        picture = self.session.app.renderer.still(request)
        self.session.client.send_file_download("relight.png", encoded_bytes(picture), save_immediately=True)


class FitTab:
    """Stages, curves and what may be done to a running fit."""

    def __init__(self, session: Session, live: Live):
        self.session, self.gui, self.live = session, session.client.gui, live
        self._plots: dict[str, Any] = {}
        self._shown: tuple[Any, ...] = ()

    def build(self) -> None:
        """Stages, buttons, curves."""
        gui, live = self.gui, self.live
        self._stages = gui.add_markdown("starting")
        self._bar = gui.add_progress_bar(0.0)
        self._pause = gui.add_button("Pause")
        self._pause.on_click(lambda _: self._toggle())
        self._next = gui.add_button("Next stage", hint="end this stage with what it has so far")
        self._next.on_click(lambda _: self._end_stage())
        self._stop = gui.add_button("Stop and save", color="gray", hint="the same command continues")
        self._stop.on_click(lambda _: live.stop_and_save())
        step = gui.add_checkbox("Pause before the next stage", live.step_stages)
        step.on_update(lambda e: setattr(live, "step_stages", bool(e.target.value)))
        nothing = np.array([0.0, 1.0]), np.array([np.nan, np.nan])
        for name, title in (("loss", "loss"), ("train_psnr", "training PSNR, dB")):
            self._plots[name] = gui.add_uplot(
                nothing, ({"label": "step"}, {"label": title, "stroke": "#e8963c", "width": 2}), title=title,
                scales={"x": {"time": False}}, height=150, legend={"show": False},
                axes=({"stroke": "#999"}, {"stroke": "#999", "size": 56}),
            )  # fmt: skip
        self.tell()

    def tell(self) -> None:
        """The state as it is now; sends only what changed."""
        live = self.live
        lines = [f"- {'**' if s.state == 'running' else ''}{s.name}{'**' if s.state == 'running' else ''}: {_state(s)}"
                 for s in live.stages]  # fmt: skip
        text = "\n".join(
            [*lines, *([] if live.running else ["", "The fit has ended."]), *(f"> {n}" for n in live.notes)]
        )
        running = next((s for s in live.stages if s.state == "running"), None)
        share = 100.0 * running.step / running.total if running is not None and running.total else 0.0
        last = running is not None and running is live.stages[-1]
        ending = running is not None and live.enough.is_set()
        state = (text, round(share, 1), live.paused, last, ending, tuple(c.seen for c in live.curves.values()))
        if state == self._shown:
            return
        self._shown = state
        self._stages.content = text or "starting"
        self._bar.value = share
        self._pause.label = "Resume" if live.paused else "Pause"
        self._next.label = "Ending this stage" if ending else "End with what it has" if last else "Next stage"
        for button in (self._pause, self._next, self._stop):
            button.disabled = not live.running
        for name, curve in list(live.curves.items()):
            if len(curve.steps) > 1:
                count = min(len(curve.steps), len(curve.values))
                self._plots[name].data = (np.array(curve.steps[:count]), np.array(curve.values[:count]))

    def _end_stage(self) -> None:
        self.live.next_stage()
        self.tell()

    def _toggle(self) -> None:
        if self.live.paused:
            self.live.resume()
        else:
            self.live.pause()
        self.tell()


_COMPARISONS: dict[str, Callable[[Session], None]] = {
    "photo": lambda session: session.compare_with_photo(),
    "before": lambda session: session.compare_with_before(),
    "mesh": lambda session: session.compare_with_mesh(),
    "off": lambda session: session.compare_nothing(),
}


def _comparisons(session: Session) -> tuple[str, ...]:
    """Those that there is something for."""
    scene, names = session.scene, session.app.names()
    of_meshes = [source.mesh for source in session.app.sources.values()]
    have = {
        "off": True,
        "photo": scene is not None and scene.views is not None and len(scene.views) > 0,
        "before": max(of_meshes.count(True), of_meshes.count(False)) > 1,
        "mesh": any(name + MESH in names for name in names),
    }
    return tuple(name for name in _COMPARISONS if have[name])


def _state(stage: Any) -> str:
    if stage.state != "running":
        return stage.state if stage.state != "done" else f"done in {_duration(stage.seconds)}"
    left = "" if stage.left is None else f", {_duration(stage.left)} left"
    return f"{stage.step} of {stage.total}{left}" if stage.total else "running"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _set(handle: Any, value: Any) -> None:
    """Without a message where nothing changes, and without one for what the list does not hold."""
    if handle.value != value and (not hasattr(handle, "options") or value in handle.options):
        handle.value = value
