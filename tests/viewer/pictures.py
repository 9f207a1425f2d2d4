"""Makes the pictures of the viewer that README.md shows.

    relight fit scenes/sample
    RELIGHT_PATIENCE=300 python tests/viewer/pictures.py runs/sample/02-distill --fit scenes/sample/scene.yaml

Needs Chromium and Playwright.  Writes assets/viewer_*.jpg.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import ROOT, Page, browser, relight
from PIL import Image

SIZE = (1200, 700)
QUALITY = 88


@contextmanager
def viewer(chromium, *arguments: str, cwd: Path) -> Iterator[Page]:
    """A page of `relight ...` without the note that a machine without graphics card gets."""
    with relight(*arguments, "--port", "0", cwd=cwd) as (address, *_):
        page = Page(chromium, address, SIZE)
        page.page.add_style_tag(content="[class*=Notification] { display: none }")
        yield page
        page.page.context.close()


def keep(page: Page, name: str) -> None:
    """assets/NAME.jpg"""
    picture = Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")
    path = ROOT / "assets" / f"{name}.jpg"
    picture.save(path, quality=QUALITY, optimize=True, progressive=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} kB")


def of_run(chromium, run: Path, light: str) -> None:
    """A photograph beside the scene in another light."""
    with viewer(chromium, "view", str(run), cwd=run) as page:
        page.says(r"\d+ x \d+, (full|refined)")
        page.page.get_by_role("button", name="photo", exact=True).click()
        page.page.get_by_role("separator", name="Divider").wait_for()
        page.tab("Light")
        page.page.locator(f"[data-relight-light='{light}']").click()
        page.says(r"\d+ x \d+, full")
        page.says(r"\d+ x \d+, refined")
        page.settled()
        keep(page, "viewer_light")


def of_fit(chromium, scene: Path, step: int) -> None:
    """The first stage of a fit at some step."""
    with (
        tempfile.TemporaryDirectory() as folder,
        viewer(chromium, "fit", str(scene.resolve()), f"output={folder}/run", "--view", cwd=Path(folder)) as page,
    ):
        page.page.wait_for_function(
            "step => Number(/: (\\d+) of/.exec(document.body.innerText)?.[1]) > step", arg=step, timeout=3_600_000
        )
        page.page.get_by_role("button", name="Pause", exact=True).click()
        page.says("Resume")
        page.settled()
        keep(page, "viewer_fit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="or stage folder, of a splat with materials")
    parser.add_argument("--light", default="sunset", help="one of the gallery")
    parser.add_argument("--fit", type=Path, help="scene file of a fit to watch")
    parser.add_argument("--step", type=int, default=1500, help="of that fit")
    arguments = parser.parse_args()
    with browser() as chromium:
        if arguments.run is not None:
            of_run(chromium, arguments.run.resolve(), arguments.light)
        if arguments.fit is not None:
            of_fit(chromium, arguments.fit, arguments.step)


if __name__ == "__main__":
    main()
