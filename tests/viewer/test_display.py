from __future__ import annotations

import base64
import json
import zlib

import pytest

from relight.errors import RelightError
from relight.viewer.display import MODES, NEED_MATERIALS, Display, Lamp, Lighting, Shared

LAMPS = (Lamp("sun", (1.0, 2.0, 3.0), (1.0, 0.5, 0.0), 2.5), Lamp("point", (0.0, -1.0, 0.25)))
VIEW = Shared(
    Display("specular", "photo", 0.25, Lighting("sunset", -90.0, 1.5, "agx", False, LAMPS), "surroundings"),
    (0.5, 0.5, -0.5, 0.5), (1.0, 2.0, -3.5), 2.5, 0.8, "02-distill", "the fit",
)  # fmt: skip


def test_a_view_survives_as_text():
    text = VIEW.to_text()
    assert Shared.from_text(f"  {text}\n") == VIEW
    assert text.isascii() and " " not in text and len(text) < 500


def changed(**values) -> str:
    data = json.loads(zlib.decompress(base64.urlsafe_b64decode(VIEW.to_text() + "==")))
    for path, value in values.items():
        *folders, name = path.split("__")
        place = data
        for folder in folders:
            place = place[folder]
        place[name] = value
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(data).encode())).decode()


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", "!!!", VIEW.to_text()[:-9], changed(display__mode="nonsense"), changed(display__lighting__curve=3),
        changed(display__divider="half"), changed(wxyz=[1, 0, 0]), changed(position=[0, 0, float("nan")]),
        changed(display__lighting__lamps=[{"kind": "laser", "place": [0, 0, 0], "color": [1, 1, 1], "strength": 1}]),
        changed(display__lighting__lamps=3), changed(distance=0), changed(fov="wide"), changed(wxyz=[0, 0, 0, 0]),
        changed(more=1, display=4),
        base64.urlsafe_b64encode(zlib.compress(b"[" * 50_000_000)).decode(),
    ],
)  # fmt: skip
def test_other_text_is_refused(text):
    with pytest.raises(RelightError, match="link: expected"):
        Shared.from_text(text)


def test_numbers_are_brought_into_range():
    found = Shared.from_text(changed(display__divider=7, display__lighting__exposure=1e9)).display
    assert (found.divider, found.lighting.exposure) == (1.0, 16.0)


def test_modes_have_explanations():
    assert set(NEED_MATERIALS) < set(MODES)
    assert all(MODES.values())
