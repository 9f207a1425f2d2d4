"""What the picture needs and viser has no control for: a divider to drag, the view in the address, pictures to click.

A script in the browser's page (page.js) and a websocket of its own beside viser's, behind the same gate.  Where a proxy
lets only viser's through, everything else still works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PATH = "/relight/"
LONGEST = 1 << 16
"""Characters of a message; longer ones are nonsense."""


class Page:
    """Of one client.  heard: told what the browser says, a message at a time, in some thread; may raise ValueError,
    TypeError or KeyError for nonsense, which ends the connection."""

    def __init__(self, heard: Callable[[Mapping[str, Any]], None]):
        self.key = secrets.token_urlsafe(16)
        """Who knows it speaks for this client."""
        self._heard = heard
        self._state: dict[str, Any] = {}
        self._send: Callable[[str], None] | None = None
        self._lock = threading.Lock()

    def script(self) -> str:
        """To run in the client's browser."""
        source = Path(__file__).with_name("page.js").read_text("utf-8")
        return f"const KEY = {json.dumps(PATH.strip('/') + '/' + self.key)};\n{source}"

    def show(self, **values: Any) -> None:
        """What the browser shows from now on; sends what changed."""
        with self._lock:
            changed = {k: v for k, v in values.items() if k not in self._state or self._state[k] != v}
            self._state |= changed
            if changed and self._send is not None:
                self._send(json.dumps(changed))

    def told(self, **values: Any) -> None:
        """What the browser shows by itself: a late echo would move what is dragged back to where it was."""
        with self._lock:
            self._state |= values

    def do(self, **values: Any) -> None:
        """Something to be done once, if the browser is there."""
        with self._lock:
            if self._send is not None:
                self._send(json.dumps(values))

    async def talk(self, connection: Any) -> None:
        """Serve the script's websocket until it ends.  A later one takes the place of an earlier."""
        from websockets.exceptions import ConnectionClosed

        loop, outbox = asyncio.get_running_loop(), asyncio.Queue()

        def send(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(outbox.put_nowait, text)

        async def write() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await connection.send(await outbox.get())

        with self._lock:
            self._send = send
            send(json.dumps(self._state))
        writer = loop.create_task(write())
        try:
            async for text in connection:
                if not isinstance(text, str) or len(text) > LONGEST:
                    raise ValueError("too long, or not text")
                message = json.loads(text)
                if not isinstance(message, dict):
                    raise ValueError("not an object")
                # Reading another stage takes seconds, in which viser's messages must go on.
                await asyncio.to_thread(self._heard, message)
        except ConnectionClosed:
            pass
        except (ValueError, TypeError, KeyError, RecursionError):
            await connection.close(1007, "not understood")
        finally:
            writer.cancel()
            with self._lock:
                if self._send is send:
                    self._send = None


class Pages:
    """All pages of a server."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}

    def add(self, page: Page) -> None:
        """Its browser may connect."""
        self._pages[page.key] = page

    def remove(self, page: Page) -> None:
        """Its browser is gone."""
        self._pages.pop(page.key, None)

    async def talk(self, connection: Any) -> None:
        """Serve a websocket whose path begins with `PATH`."""
        page = self._pages.get(connection.request.path.removeprefix(PATH))
        if page is None:
            await connection.close(1008, "no such page")
            return
        await page.talk(connection)
