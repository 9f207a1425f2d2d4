"""The web server, by viser, and who may connect to it."""

from __future__ import annotations

import contextlib
import hmac
import http
import io
import ipaddress
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from relight.errors import RelightError

from .page import PATH, Page, Pages

COOKIE = "relight_token"


class Gate:
    """Who may connect.  token: that a browser must bring once, in the address; None for whoever is on this machine.

    Pages of other sites are turned away too: browsers let any page open a websocket to localhost, and say in `Origin`
    where the page came from.
    """

    def __init__(self, token: str | None):
        self.token = token
        self.installed = False

    def refusal(self, path: str, headers: Any) -> tuple[int, str, dict[str, str]] | None:
        """What to answer instead of serving: status, text, headers; None to serve."""
        host = headers.get("Host", "")
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "another site's page may not connect\n", {}
        if self.token is None:
            # A foreign name that points here is another site's page again (DNS rebinding).
            name = urlsplit(f"//{host}").hostname or ""
            return None if is_local(name) else (403, "open this page as localhost\n", {})
        if self._matches(_cookie(headers.get("Cookie", ""))):
            return None
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        if self._matches(query.pop("token", [""])[0]):
            rest = urlencode(query, doseq=True)
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            # Not the path of the request: //elsewhere would be another site.
            return 302, "", {"Location": "/" + (f"?{rest}" if rest else ""), "Set-Cookie": cookie}
        return 401, "open the address with ?token=... that relight printed\n", {}

    def _matches(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    @contextmanager
    def around(self, pages: Pages) -> Iterator[None]:
        """Servers that viser starts within are guarded, and websockets of `pages` are theirs.

        viser has no option for it, so its call to websockets is met.
        """
        import websockets.asyncio.server as library

        original: Any = library.serve

        def serve(handler: Any, *arguments: Any, process_request: Any = None, **options: Any) -> Any:
            self.installed = True

            def guarded(connection: Any, request: Any) -> Any:
                refusal = self.refusal(request.path, request.headers)
                return process_request(connection, request) if refusal is None else _response(*refusal)

            async def routed(connection: Any) -> None:
                ours = connection.request.path.startswith(PATH)
                await (pages.talk(connection) if ours else handler(connection))

            return original(routed, *arguments, process_request=guarded, **options)

        library.serve = serve
        try:
            yield
        finally:
            library.serve = original


def is_local(host: str) -> bool:
    """Whether a host's name is this machine's own and nobody else's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server:
    """A viser server behind a `Gate`.  Close with `close`.

    host: to bind to; anything but this machine's own gets a token.  port: 0 for any free one; taken ones are passed
    over.  token: None for a random one where one is needed.
    """

    def __init__(self, host: str = "localhost", port: int = 8080, token: str | None = None, *, title: str = "relight"):
        try:
            import viser
        except ImportError as error:
            raise RelightError(f"the viewer needs viser ({error}): pip install 'relight[viewer]'") from error
        if token is None and not is_local(host):
            token = secrets.token_urlsafe(16)
        self.gate, self.pages = Gate(token), Pages()
        self.host = "127.0.0.1" if host == "localhost" else host
        _quiet_libraries()
        # viser prints a box of its own; ours says where to look, with the token.
        with self.gate.around(self.pages), contextlib.redirect_stdout(io.StringIO()):
            self.viser: Any = viser.ViserServer(host=self.host, port=port, label=title, verbose=False)
        if not self.gate.installed:
            self.viser.stop()
            raise RelightError("this viser cannot be guarded: install another with pip install 'viser>=1.0,<2'")
        # A client could otherwise open a tunnel to the internet.
        self.viser.request_share_url = lambda *_, **__: None
        self.viser.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True, control_width="medium")
        self.viser.gui.main_panel.dock_right()

    @property
    def address(self) -> str:
        """To open in a browser."""
        shown = "localhost" if self.host in ("127.0.0.1", "0.0.0.0") else self.host
        shown = f"[{shown}]" if ":" in shown else shown
        query = "" if self.gate.token is None else f"/?{urlencode({'token': self.gate.token})}"
        return f"http://{shown}:{self.viser.get_port()}{query}"

    def on_connect(self, connected: Callable[[Any], None]) -> None:
        """Called with each new client, in some thread."""
        self.viser.on_client_connect(connected)

    def on_disconnect(self, gone: Callable[[Any], None]) -> None:
        """Called with each client that left."""
        self.viser.on_client_disconnect(gone)

    def open_page(self, client: Any, page: Page) -> None:
        """Run the page's script in a client's browser and let it connect."""
        from viser import _messages as messages

        self.pages.add(page)
        # What viser's own plots come by; it has no public name.
        client._websock_connection.queue_message(messages.RunJavascriptMessage(source=page.script()))

    def connected(self, client: Any) -> bool:
        """Whether it still is."""
        return client.client_id in self.viser.get_clients()

    def close(self) -> None:
        """No more clients."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.viser.stop()
            # viser's farewell is printed by a thread of its own.
            threading.Event().wait(0.05)


def _quiet_libraries() -> None:
    """A broken message ends its connection, which is right, and fills the terminal with a traceback, which is not."""
    import logging

    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    # A browser that is closed while it is told something is nothing to warn of.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection")


def _cookie(header: str) -> str:
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _response(status: int, text: str, headers: dict[str, str]) -> Any:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    body = text.encode()
    more = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": "no-store"}
    return Response(status, http.HTTPStatus(status).phrase, Headers({**more, **headers}), body)
