from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from relight.viewer.server import Gate, Server, is_local


def refused(gate: Gate, path: str = "/", **headers: str) -> int | None:
    found = gate.refusal(path, {k.replace("_", "-"): v for k, v in headers.items()})
    return None if found is None else found[0]


def test_localhost_is_open_to_this_machine_only():
    gate = Gate(None)
    assert refused(gate, Host="localhost:8080") is None
    assert refused(gate, Host="127.0.0.1:8080", Origin="http://127.0.0.1:8080") is None
    assert refused(gate, Host="[::1]:8080") is None
    assert refused(gate, Host="localhost:8080", Origin="http://evil.example") == 403
    assert refused(gate, Host="localhost:8080", Origin="null") == 403
    assert refused(gate, Host="localhost:8080", Origin="http://localhost:9999") == 403, "another program's page"
    assert refused(gate, Host="rebound.example:8080", Origin="http://rebound.example:8080") == 403
    assert refused(gate) == 403


def test_a_token_is_asked_for_once():
    gate = Gate("secret")
    assert refused(gate, "/", Host="example:1") == 401
    assert refused(gate, "/?token=wrong", Host="example:1") == 401
    assert refused(gate, "/", Host="example:1", Cookie="relight_token=wrong") == 401
    assert refused(gate, "/", Host="example:1", Cookie="a=b; relight_token=secret") is None
    assert refused(gate, "/", Host="example:1", Cookie="relight_token=secret", Origin="http://evil") == 403
    status, _, headers = gate.refusal("//evil.example/x?token=secret&share=a%26b", {"Host": "example:1"}) or (0, "", {})
    assert status == 302 and headers["Location"] == "/?share=a%26b"
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("192.168.1.2", False),
        ("localhost.example", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_local(host, local):
    assert is_local(host) == local


@pytest.fixture
def server():
    pytest.importorskip("viser")
    made: list[Server] = []

    def make(**options) -> Server:
        made.append(Server(port=0, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def get(address: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(address, headers={k.replace("_", "-"): v for k, v in headers.items()})
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_the_real_server_is_guarded(server):
    open_one, guarded = server(), server(token="a b&c")
    assert open_one.gate.token is None and "token" not in open_one.address
    status, page = get(open_one.address)
    assert status == 200 and "<html" in page
    assert get(open_one.address, Origin="http://evil.example")[0] == 403
    base = guarded.address.split("?")[0]
    assert get(base)[0] == 401
    assert get(base + "?token=no")[0] == 401
    assert get(guarded.address)[0] == 200, "with the token, by way of a cookie"


def test_websockets_are_guarded(server):
    client = pytest.importorskip("websockets.sync.client")
    from websockets.exceptions import InvalidStatus

    port = server(token="secret").viser.get_port()
    for headers in ({}, {"Cookie": "relight_token=wrong"}, {"Cookie": "relight_token=secret", "Origin": "http://evil"}):
        with (
            pytest.raises(InvalidStatus, match=r"40[13]"),
            client.connect(f"ws://127.0.0.1:{port}", additional_headers=headers),
        ):
            pass
    with client.connect(f"ws://127.0.0.1:{port}", additional_headers={"Cookie": "relight_token=secret"}):
        pass


def test_other_machines_need_a_token(server):
    one = server(host="0.0.0.0")
    assert one.gate.token is not None and len(one.gate.token) > 15 and one.gate.token in one.address


def test_only_this_machine_reaches_the_default(server):
    one = server()
    outside = socket.gethostbyname(socket.gethostname())
    if is_local(outside):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError), socket.create_connection((outside, one.viser.get_port()), timeout=2):
        pass


def test_no_client_opens_a_tunnel(server):
    assert server().viser.request_share_url() is None
