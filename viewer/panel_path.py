"""The tab of keyframes and films."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relight.errors import RelightError

from .path import along, film
from .renderer import Request

if TYPE_CHECKING:
    from .session import Session

SIZES = {"640 x 360": (640, 360), "1280 x 720": (1280, 720), "1920 x 1080": (1920, 1080)}


class _GoneError(RelightError):
    """The client left while its film was made."""


class PathTab:
    """Of one session."""

    def __init__(self, session: Session):
        self.session, self.gui = session, session.client.gui

    def build(self) -> None:
        """All of it."""
        gui = self.gui
        self._count = gui.add_markdown("No keyframes")
        gui.add_button("Add keyframe", hint="where the camera is now").on_click(lambda _: self._add())
        gui.add_button("Clear keyframes", color="gray").on_click(lambda _: self._clear())
        self._seconds = gui.add_slider("Seconds", 1.0, 30.0, 0.5, 5.0)
        self._fps = gui.add_slider("Pictures a second", 10, 60, 1, 24)
        self._size = gui.add_dropdown("Size", tuple(SIZES))
        self._fine = gui.add_checkbox("With soft shadows and mirrors", False, hint="about ten times slower")
        self._make = gui.add_button("Make film")
        self._make.on_click(lambda _: self._film())
        self._bar = gui.add_progress_bar(0.0, visible=False)

    def _add(self) -> None:
        camera = self.session.viewpoint.camera()
        if camera is not None:
            self.session.keys.append(camera)
            self._told()

    def _clear(self) -> None:
        self.session.keys.clear()
        self._told()

    def _told(self) -> None:
        count = len(self.session.keys)
        self._count.content = f"{count} keyframe{'s' if count > 1 else ''}" if count else "No keyframes"

    def _film(self) -> None:
        session, refine = self.session, bool(self._fine.value)
        self._make.disabled, self._bar.visible = True, True
        try:
            request = session.request()
            if request is None:
                raise RelightError("there is nothing to film yet")
            fps = float(self._fps.value)
            cameras = along(session.keys, seconds=float(self._seconds.value), fps=fps, size=SIZES[self._size.value])

            def advance(share: float) -> None:
                self._bar.value = 100 * share
                if not session.sleep(0):
                    raise _GoneError("the browser is gone")

            def paint(camera):
                still = Request(request.painter, camera, request.display)
                return session.app.renderer.still(still, refine=refine)

            session.client.send_file_download("relight.mp4", film(cameras, paint, fps, advance), save_immediately=True)
        except _GoneError:
            return
        except RelightError as error:
            session.say(str(error))
        finally:
            self._make.disabled, self._bar.visible = False, False
