"""A headless Chromium on pages of the viewer, and a viewer in a process of its own."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 1000 * int(os.environ.get("RELIGHT_PATIENCE", "60"))
"""Milliseconds that anything may take; other programs may want the processor too."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Any]:
    """Skips, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    program = os.environ.get("RELIGHT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium, or name it in RELIGHT_CHROMIUM")
    with playwright.sync_playwright() as tool:
        started = tool.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


class Page:
    """A page whose console is listened to."""

    def __init__(self, browser: Any, address: str, size: tuple[int, int] = (1100, 640)):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, accept_downloads=True)
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.goto(address)

    def says(self, pattern: str) -> None:
        """Wait until the page shows such a text."""
        self.page.wait_for_function("p => new RegExp(p).test(document.body.innerText)", arg=pattern)

    def tab(self, name: str) -> None:
        """Open it."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def field(self, label: str) -> Any:
        """What is written in beside a label."""
        row = self.page.locator(f"xpath=//label[normalize-space()='{label}']/ancestor::div[.//input][1]").first
        return row.locator("input").first

    def choose(self, label: str, option: str) -> None:
        """In a list."""
        self.field(label).click()
        self.page.get_by_role("option", name=option, exact=True).first.click()

    def picture(self) -> np.ndarray:
        """(H, W, 3), 0 to 1: the canvas, without what floats above it at the left."""
        box = self.page.locator("canvas").first.bounding_box()
        clip = {
            "x": box["x"] + 0.42 * box["width"],
            "y": box["y"],
            "width": 0.2 * box["width"],
            "height": box["height"],
        }
        data = self.page.screenshot(clip=clip)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) / 255

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the left button; places are shares of the canvas."""
        box = self.page.locator("canvas").first.bounding_box()
        (x, y), (to_x, to_y) = ((box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in (start, end))
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(to_x, to_y, steps=5)
        self.page.mouse.up()

    def changes(self, before: np.ndarray, least: float = 0.01) -> np.ndarray:
        """The picture, once it differs from `before` by that mean."""
        for _ in range(PATIENCE // 250):
            now = self.picture()
            if now.shape == before.shape and float(np.abs(now - before).mean()) > least:
                return now
            self.page.wait_for_timeout(250)
        raise AssertionError("the picture did not change")

    def settled(self) -> np.ndarray:
        """The picture, once it no longer changes."""
        before = self.picture()
        for _ in range(PATIENCE // 400):
            self.page.wait_for_timeout(400)
            now = self.picture()
            if float(np.abs(now - before).max()) < 0.02:
                return now
            before = now
        raise AssertionError("the picture goes on changing")

    def shot(self, folder: Path, name: str) -> None:
        """For people to look at, if RELIGHT_SCREENSHOTS names a folder."""
        self.page.screenshot(path=str(Path(os.environ.get("RELIGHT_SCREENSHOTS", folder)) / f"{name}.png"))


@contextmanager
def relight(*arguments: str, cwd: Path) -> Iterator[tuple[str, subprocess.Popen, list[str]]]:
    """`relight ...` in a process, the address that it prints, and the lines of both outputs; ended with the block."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "relight", *arguments], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: list[str] = []
    found = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if "look at:" in line:
                found.set()
        found.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert found.wait(PATIENCE / 1000) and process.poll() is None, lines
        yield re.findall(r"http://\S+", "\n".join(lines))[0], process, lines
    finally:
        process.kill()
        process.wait()
        thread.join()
        if process.stdout is not None:
            process.stdout.close()
