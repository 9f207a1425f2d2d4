"""The viewer as a whole: what is shown, to whom, and what happens when something changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relight.errors import RelightError
from relight.fit.select import Selector

from .content import MESH, Content, Source, capture, find, gallery, load
from .document import Document
from .lights import Lamps, Library
from .live import Live
from .mesh_painter import MeshPainter
from .painter import Painter
from .renderer import Renderer
from .selection import selector_of
from .server import Server
from .session import Session
from .splat_painter import SplatPainter

TICK = 0.5
"""Seconds between two looks at a fit."""
LOADING = 60.0
"""Seconds that a client waits for the capture before it gets an empty panel."""
LIVE = "the fit"
"""Name of the fit in the gallery."""


@dataclass
class Shown:
    """A content and what draws it.  document: a splat's edits.  selector: what knows its things, None for nothing.
    asking: held by who asks it.  asked: for what it was, which is worked out once.
    """

    content: Content
    painter: Painter
    document: Document | None = None
    selector: Selector | None = None
    asking: threading.Lock = field(default_factory=threading.Lock)
    asked: set[str] = field(default_factory=set)


class App:
    """Open with `serving`.

    sources: what there is to see, by name.  first: the name that clients see first.  live: a fit to watch.
    """

    def __init__(
        self, server: Server, library: Library, sources: Mapping[str, Source], first: str | None,
        live: Live | None = None,
    ):  # fmt: skip
        self.server, self.library, self.sources, self.live = server, library, dict(sources), live
        self.lamps = Lamps(library)
        self.first = LIVE if live is not None else first
        self.renderer = Renderer(live.duty if live is not None else lambda: 1.0)
        self.sessions: dict[int, Session] = {}
        self._shown: dict[str, Shown] = {}
        self._lock = threading.Lock()
        self._somebody = threading.Event()
        self._ended = threading.Event()
        self._number = 0

    @property
    def looked_at(self) -> bool:
        """Whether there is any client."""
        return bool(self.sessions)

    def names(self) -> list[str]:
        """Of all that can be shown."""
        return [*([LIVE] if self.live is not None else []), *([LIVE + MESH] if LIVE + MESH in self._shown else []),
                *self.sources]  # fmt: skip

    def shown(self, name: str) -> Shown | None:
        """Loaded when first asked for; None for a fit that has given nothing yet.  Raises RelightError."""
        with self._lock:
            if name not in self._shown and name in self.sources:
                source = self.sources[name]
                self.keep(name, load(source.path, mesh=source.mesh))
            elif name not in self._shown and name != LIVE:
                raise RelightError(f"{name}: no such stage in this run")
            return self._shown.get(name)

    def keep(self, name: str, content: Content, *, lasting: bool = True) -> None:
        """Show this content under a name.  lasting: for longer than a second, so that what takes minutes of work in the
        background, or at the first click, is worth it: shadows, and what belongs together."""
        if self.library.up is None:
            self.library.up = content.scene.frame.up
        self.library.beside(content.scene)
        if content.mesh:
            self._shown[name] = Shown(content, MeshPainter(content.scene, self.lamps))
            return
        assert content.scene.gaussians is not None
        document = Document(content.scene.gaussians, self.changed)
        painter = SplatPainter(content.scene, self.lamps, rays=lasting)
        selector = selector_of(content.scene) if lasting and not content.captured else None
        self._shown[name] = Shown(content, painter, document, selector)
        if not painter.ready:
            threading.Thread(target=self._prepare, args=(painter,), name="relight-viewer-rays", daemon=True).start()

    def _prepare(self, painter: Painter) -> None:
        painter.prepare()
        self.changed()

    def changed(self) -> None:
        """Everybody sees the edit."""
        for session in list(self.sessions.values()):
            session.refresh()

    @contextmanager
    def serving(self) -> Iterator[App]:
        """Clients may come; ends with the block."""
        ticker = threading.Thread(target=self._watch, name="relight-viewer-fit", daemon=True)
        with self.renderer:
            self.server.on_connect(self._connected)
            self.server.on_disconnect(self._gone)
            if self.live is not None:
                self.live.looked_at = lambda: self.looked_at
                ticker.start()
            try:
                yield self
            finally:
                self._ended.set()
                self._somebody.set()
                self.server.close()

    def _connected(self, client: Any) -> None:
        if self.live is not None:
            # Cameras come with the capture, which may take a while to read.
            self.live.loaded.wait(LOADING)
        session = Session(self, client)
        self.sessions[client.client_id] = session
        if not self.server.connected(client):
            # It left before this thread came to it, and was said to be gone already.
            self._gone(client)
            return
        # Also when the state is old: without clients nothing was taken over.
        self._take_over()
        try:
            session.begin()
        except ValueError:
            # Its camera is nonsense, which viser refuses to move.
            self._gone(client)
            return
        self._somebody.set()

    def _gone(self, client: Any) -> None:
        session = self.sessions.pop(client.client_id, None)
        if session is not None:
            session.end()
        if not self.sessions:
            self._somebody.clear()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._somebody.wait()
            if self._take_over():
                for session in list(self.sessions.values()):
                    session.refresh()
            for session in list(self.sessions.values()):
                session.tell()
            self._ended.wait(TICK)

    def _take_over(self) -> bool:
        """The fit's newest state, if there is one."""
        if self.live is None:
            return False
        number, scene = self.live.scene
        if scene is None and LIVE not in self._shown and self.live.captured is not None:
            content = capture(LIVE, self.live.captured)
        elif scene is None or number == self._number:
            return False
        else:
            content = Content(LIVE, scene)
        with self._lock:
            self._number = number
            self.keep(LIVE, content, lasting=not self.live.running)
            if content.scene.asset is not None and not self.live.running:
                self.keep(LIVE + MESH, replace(content, mesh=True))
        return True


def open_app(source: Path | None, server: Server, lights: Path | None, live: Live | None = None) -> App:
    """An app for a run, a stage folder, a splat or model file or a scene file; for a fit, None and `live`."""
    if source is None:
        return App(server, Library(lights), {}, None, live)
    source = find(source)
    content = load(source)
    assert content.folder is not None
    mesh = content.mesh and content.folder.is_dir()
    first = content.folder.name + (MESH if mesh else "")
    sources = gallery(source) | {first: Source(content.folder, mesh)}
    app = App(server, Library(lights, content.scene.frame.up), sources, first)
    app.keep(first, content)
    return app
