"""One thread that draws for every client: quickly first, better while nothing moves, and never more than its share."""

from __future__ import annotations

import math
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from relight.errors import RelightError
from relight.geometry.camera import Camera

from .display import Display
from .painter import Superseded

QUICK = 0.1
"""Seconds that the first picture after a movement may take; its resolution follows from that."""
STILL = 0.15
"""Seconds without a movement after which the full picture is drawn."""
SMALLEST, LARGEST = 96, 1 << 21
"""Pixels of a quick picture's longer side, at least; pixels of a full picture, at most."""
BURST = 0.6
"""Seconds of drawing that may be saved up while nothing is asked for, where drawing is rationed."""

DEBT = 1.0
"""Seconds that a picture may have taken too long, at most: the first one loads kernels, and no other shall pay."""


class Paints(Protocol):
    """What draws: see `relight.viewer.painter.Painter`."""

    def paint(self, camera: Camera, display: Display) -> Tensor:
        """At once."""
        ...

    def refined(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        """Better ones."""
        ...


@dataclass(frozen=True)
class Request:
    """camera: at the full resolution."""

    painter: Paints
    camera: Camera
    display: Display


Wanted = Callable[[], Request | None]
"""What a client wants, worked out when its turn comes: of a hundred movements a second, few are drawn."""


Deliver = Callable[[Tensor, str], None]
"""Takes an (H, W, 3) sRGB-encoded picture and "quick", "full" or "refined"."""


@dataclass
class _Client:
    deliver: Deliver
    failed: Callable[[str], None]
    wanted: Wanted = lambda: None
    request: Request | None = None
    moving: bool = True
    number: int = 0
    asked: float = 0.0
    stage: str = "done"
    better: Iterator[Tensor] | None = None
    scale: dict[str, float] = field(default_factory=dict)
    served: float = 0.0


class Renderer:
    """Start with `with`, which ends the thread.

    duty: share of the time that may be spent drawing, asked before each picture; 1 for all of it.
    """

    def __init__(self, duty: Callable[[], float] = lambda: 1.0):
        self._duty = duty
        self._wake = threading.Condition()
        self._clients: dict[Hashable, _Client] = {}
        self._ended = False
        self._drawing = threading.Lock()
        self._credit, self._credited = BURST, time.monotonic()
        self._thread = threading.Thread(target=self._run, name="relight-viewer-render", daemon=True)
        self.busy_seconds = 0.0
        self.pictures = 0

    def __enter__(self) -> Renderer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        self._thread.join(timeout=10)

    def open(self, key: Hashable, deliver: Deliver, failed: Callable[[str], None] = lambda text: None) -> None:
        """A new client.  failed: told why a picture cannot be drawn, where that is something the user can mend."""
        with self._wake:
            self._clients[key] = _Client(deliver, failed)

    def close(self, key: Hashable) -> None:
        """It is gone; a picture in the making is dropped."""
        with self._wake:
            client = self._clients.pop(key, None)
            if client is not None:
                client.number += 1

    def ask(self, key: Hashable, wanted: Wanted, *, moving: bool = True) -> None:
        """Draw this from now on; what was asked for earlier is forgotten.

        moving: something changes at the moment, so that a quick answer counts.
        """
        with self._wake:
            client = self._clients.get(key)
            if client is None:
                return
            client.wanted, client.moving, client.asked = wanted, moving, time.monotonic()
            client.number += 1
            client.request = client.better = None
            client.stage = "quick" if moving else "full"
            self._wake.notify_all()

    def still(self, request: Request, *, refine: bool = True) -> Tensor:
        """The picture at its best, drawn in the caller's thread, with everybody else waiting; rationed as well."""
        while not self._ended:
            with self._wake:
                self._earn()
                if self._credit > 0:
                    break
            time.sleep(0.05)
        begun = time.monotonic()
        with self._drawing:
            picture = request.painter.paint(request.camera, request.display)
            for better in (
                request.painter.refined(request.camera, request.display, lambda: self._ended) if refine else ()
            ):
                picture = better
        self._spend(time.monotonic() - begun)
        return picture

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                found = self._next()
                while found is None:
                    if self._ended:
                        return
                    self._wake.wait(self._patience())
                    found = self._next()
                if self._ended:
                    return
                client, number, stage = found
            begun = time.monotonic()
            try:
                with self._drawing:
                    self._draw(client, number, stage)
            except Superseded:
                pass
            except Exception as error:
                self._failed(client, number, error)
            spent = time.monotonic() - begun
            self.busy_seconds += spent
            self.pictures += 1
            self._spend(spent)
            client.served = time.monotonic()

    def _next(self) -> tuple[_Client, int, str] | None:
        """The client that waits longest for the quickest kind of picture."""
        now = self._earn()
        if self._credit <= 0:
            return None
        ready = [
            c
            for c in self._clients.values()
            if c.stage == "quick" or (c.stage != "done" and now - c.asked >= self._rest(c))
        ]
        if not ready:
            return None
        order = {"quick": 0, "full": 1, "refined": 2}
        client = min(ready, key=lambda c: (order[c.stage], c.served))
        return client, client.number, client.stage

    def _earn(self) -> float:
        """The share of the time since the last call; returns now."""
        now, duty = time.monotonic(), self._duty()
        self._credit = min(BURST, self._credit + duty * (now - self._credited)) if duty < 1 else BURST
        self._credited = now
        return now

    def _spend(self, seconds: float) -> None:
        self._credit = max(-DEBT, self._credit - seconds)

    @staticmethod
    def _rest(client: _Client) -> float:
        return STILL if client.moving else 0.0

    def _patience(self) -> float | None:
        """Seconds until something may be due; None to wait until asked."""
        waiting = [c for c in self._clients.values() if c.stage != "done"]
        if not waiting:
            return None
        until = min(c.asked + self._rest(c) for c in waiting) - time.monotonic()
        if self._credit <= 0:
            until = max(until, min(1.0, -self._credit / max(self._duty(), 1e-3)))
        return max(0.005, until)

    def _draw(self, client: _Client, number: int, stage: str) -> None:
        request = client.request or client.wanted()
        if request is None:
            self._stage(client, number, "done")
            return
        with self._wake:
            if client.number == number:
                client.request = request
        if stage == "quick":
            key = f"{request.display.mode} {request.display.other} {request.display.lighting.photographed}"
            scale = client.scale.get(key, 0.4)
            camera = _scaled(request.camera, scale)
            begun = time.monotonic()
            picture = request.painter.paint(camera, request.display)
            took = time.monotonic() - begun
            longer = max(request.camera.width, request.camera.height)
            wanted = scale * math.sqrt(QUICK / max(took, 1e-4))
            # Half way, because one slow picture says little about the next.
            client.scale[key] = min(1.0, max(SMALLEST / longer, math.sqrt(scale * wanted)))
            complete = (camera.width, camera.height) == (request.camera.width, request.camera.height)
            # An outdated quick picture is still shown: while somebody drags, every picture is outdated.
            kind, then = ("full", "refined") if complete else ("quick", "full")
            self._give(client, number, picture, kind, then, late=True)
        elif stage == "full":
            self._give(client, number, request.painter.paint(request.camera, request.display), stage, "refined")
        else:
            if client.better is None:
                client.better = request.painter.refined(
                    request.camera, request.display, lambda: client.number != number or self._ended
                )
            picture = next(client.better, None)
            if picture is None:
                self._stage(client, number, "done")
            else:
                self._give(client, number, picture, stage, "refined")

    def _give(self, client: _Client, number: int, picture: Tensor, kind: str, then: str, *, late: bool = False) -> None:
        if late or client.number == number:
            client.deliver(picture, kind)
        self._stage(client, number, then)

    def _stage(self, client: _Client, number: int, stage: str) -> None:
        with self._wake:
            if client.number == number:
                client.stage = stage

    def _failed(self, client: _Client, number: int, error: Exception) -> None:
        """A picture that cannot be drawn must not end the fit beside it, nor be tried for ever."""
        if isinstance(error, RelightError):
            client.failed(str(error))
        else:
            warnings.warn(f"viewer: a picture failed: {error}\n{traceback.format_exc()}", stacklevel=1)
        self._stage(client, number, "done")


def _scaled(camera: Camera, scale: float) -> Camera:
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
