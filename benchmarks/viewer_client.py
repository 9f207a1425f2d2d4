"""A client of the viewer without a browser: it speaks viser's websocket protocol, and notes when pictures come."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from relight.geometry.transforms import look_at, quaternion_from_rotation


@dataclass(frozen=True)
class Arrival:
    """A picture.  seconds: of `time.perf_counter`.  width: pixels."""

    seconds: float
    width: int


class Client:
    """Connected as long as its `with` block.  size: of its window, pixels."""

    def __init__(self, port: int, size: tuple[int, int] = (640, 480)):
        import viser
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        self.size = size
        self.arrivals: list[Arrival] = []
        self._new = threading.Condition()
        self._socket = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[Subprotocol(f"viser-v{viser.__version__}")], max_size=None,
            compression=None,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._reader.join(timeout=5)

    def kill(self) -> None:
        """As a browser that is killed: no farewell."""
        self._socket.socket.close()

    def send(self, data: bytes | str) -> None:
        """Anything."""
        self._socket.send(data)

    def move(self, angle: float, distance: float = 4.0) -> float:
        """Go round the origin; returns when, by `time.perf_counter`."""
        message = self.movement(angle, distance)
        now = time.perf_counter()
        self.send(message)
        return now

    def movement(self, angle: float, distance: float = 4.0) -> bytes:
        """What `move` sends."""
        import msgspec.msgpack

        eye = distance * torch.tensor([math.sin(angle), 0.4, math.cos(angle)])
        pose = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        message = {
            "type": "ViewerCameraMessage", "wxyz": quaternion_from_rotation(pose[:3, :3]).tolist(),
            "position": eye.tolist(), "fov": 0.8, "near": 0.01, "far": 1000.0, "image_height": self.size[1],
            "image_width": self.size[0], "look_at": [0.0, 0.0, 0.0], "up_direction": [0.0, 1.0, 0.0],
        }  # fmt: skip
        return msgspec.msgpack.encode(message)

    def wait(self, since: float, width: int = 0, timeout: float = 60.0) -> Arrival:
        """The first picture of at least `width` pixels that came after `since`.  Raises TimeoutError."""
        until = time.monotonic() + timeout
        with self._new:
            while True:
                for arrival in self.arrivals:
                    if arrival.seconds > since and arrival.width >= width:
                        return arrival
                left = until - time.monotonic()
                if left <= 0 or not self._new.wait(left):
                    raise TimeoutError("no picture came")

    def _read(self) -> None:
        import msgspec.msgpack
        import zstandard
        from websockets.exceptions import ConnectionClosed

        try:
            for data in self._socket:
                assert isinstance(data, bytes)
                packed = int.from_bytes(data[8:16], "little")
                window = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + packed]))
                for message in window["messages"]:
                    self._receive(message, data[16 + packed :])
        except (ConnectionClosed, OSError):
            return

    def _receive(self, message: Mapping, rest: bytes) -> None:
        if message.get("type") != "BackgroundImageMessage":
            return
        found = message["rgb_data"]
        jpeg = found if isinstance(found, bytes) else rest[rest.find(b"\xff\xd8\xff") :]
        with self._new:
            self.arrivals.append(Arrival(time.perf_counter(), _width(jpeg)))
            self._new.notify_all()


def _width(jpeg: bytes) -> int:
    """From the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(jpeg):
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC3:
            return int.from_bytes(jpeg[at + 7 : at + 9], "big")
        at += 2 + length
    return 0


class WatchedFit:
    """One process of `relight fit --view`, with a client that moves all the time."""

    PATIENCE = 1800
    """Seconds for what nobody kills."""

    def __init__(self, scene: Path, *words: str):
        command = [sys.executable, "-m", "relight", "fit", str(scene), *words, "--view", "--port", "18080"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self.finished, self.pictures = threading.Event(), 0
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._read, self._look)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)
            if "the viewer goes on" in line:
                self.finished.set()
        self.finished.set()

    def _look(self) -> None:
        while self.process.poll() is None:
            port = next((m[1] for line in self.lines if (m := re.search(r"localhost:(\d+)", line))), None)
            if port is None:
                time.sleep(0.1)
                continue
            try:
                with Client(int(port), (160, 120)) as client:
                    for turn in range(10**6):
                        client.move(0.1 * turn)
                        time.sleep(0.3)
                        self.pictures = len(client.arrivals)
            except Exception:  # the server was killed, which is what this is about
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def complete(self) -> bool:
        """Wait for the result, then Ctrl-C."""
        self.finished.wait(self.PATIENCE)
        running = self.process.poll() is None
        self.process.send_signal(signal.SIGINT)
        self._end()
        return running

    def _end(self) -> None:
        self.process.wait()
        for thread in self._threads:
            thread.join()


def main() -> None:
    """`PORT`: as many clients as the last line of standard input says, each moving 20 times a second, until it ends."""
    port, clients, wanted = int(sys.argv[1]), [], [0]

    def listen() -> None:
        for line in sys.stdin:
            wanted[0] = int(line)
        wanted[0] = -1

    threading.Thread(target=listen, daemon=True).start()
    angle, movements = 0, []
    while wanted[0] >= 0:
        while len(clients) < wanted[0]:
            clients.append(Client(port))
            movements = movements or [clients[0].movement(0.02 * i) for i in range(314)]
        while len(clients) > max(wanted[0], 0):
            clients.pop().__exit__()
        angle += 1
        for client in clients:
            client.send(movements[angle % len(movements)])
        time.sleep(0.05)


if __name__ == "__main__":
    main()
