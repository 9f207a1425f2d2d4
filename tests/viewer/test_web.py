from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from relight.errors import MissingPartError, RelightError
from relight.export import export, formats
from relight.formats import write_splat
from relight.shading.environment import Environment
from relight.viewer.web import baked, captured, export_web, pack, write_page


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_packing_loses_little(scene):
    g = scene.gaussians
    data = json.loads(json.dumps(pack(g)))
    low, high = np.array(data["low"]), np.array(data["high"])
    places = low + (high - low) / 65535 * numbers(data["places"], "<u2").reshape(-1, 3)
    assert np.abs(places - g.means.numpy()).max() < 1e-4
    assert np.abs(numbers(data["opacities"], "u1") / 255 - g.opacities.numpy()).max() < 0.003
    quats = numbers(data["quats"], "u1").reshape(-1, 4) / 127.5 - 1
    assert np.abs(quats - torch.nn.functional.normalize(g.quats_wxyz, dim=1).numpy()).max() < 0.005


def test_scales_are_packed_by_their_logarithms(scene):
    g = replace(scene.gaussians, log_scales=torch.linspace(-7, 0, 1200).view(400, 3))
    data = pack(g)
    span = data["scale_high"] - data["scale_low"]
    logs = data["scale_low"] + span * numbers(data["scales"], "u1").reshape(-1, 3) / 255
    assert np.abs(logs - g.log_scales.numpy()).max() < 0.6 * span / 255
    flat = pack(replace(g, surfels=True))
    thin = numbers(flat["scales"], "u1").reshape(-1, 3)
    assert (thin[:, 2] < thin[:, :2].min(1)).all(), "a surfel has no thickness"


def test_light_is_baked_with_its_colour(scene):
    red = Environment(torch.tensor([1.0, 0.0, 0.0]).expand(8, 16, 3).contiguous())
    white = Environment(torch.ones(8, 16, 3))
    found = baked(scene, {"red": red, "white": white})
    assert found["red"].shape == (400, 3) and float(found["red"][:, 1:].max()) < 1e-6
    # A rough dielectric under a white sky shows about its own colour.
    from relight.shading.color import linear_to_srgb

    own = linear_to_srgb(scene.gaussians.channels["base_color"][:200])
    assert float((found["white"][:200] - own).abs().mean()) < 0.06


def test_the_page_is_complete_by_itself(scene, tmp_path):
    page = tmp_path / "page.html"
    write_page(scene, page, "a <b> & c", {"white": Environment(torch.ones(8, 16, 3))})
    text = page.read_text("utf-8")
    assert "a &lt;b&gt; &amp; c" in text and "$" not in re.sub(
        r"\$\{", "", text.split("<script>")[0].split("<style>")[0]
    )
    assert not re.search(r"(src|href)=[\"']?(?!data:)[a-z/]", text) and "import(" not in text and "fetch(" not in text
    data = json.loads(re.search(r'id="splat">(.*?)</script>', text, re.S).group(1))  # type: ignore[union-attr]
    assert [light["name"] for light in data["lights"]] == ["as photographed", "white"]
    assert data["count"] == 400 and len(numbers(data["lights"][1]["colors"], "u1")) == 1200


def test_a_splat_without_materials_has_its_captured_look(plain, tmp_path):
    page = tmp_path / "page.html"
    write_page(plain, page, "plain", {"white": Environment(torch.ones(8, 16, 3))})
    assert page.read_text("utf-8").count('"colors"') == 1
    assert captured(plain)[0].tolist() == pytest.approx([0.8, 0.1, 0.1], abs=1e-4)


def test_faint_gaussians_are_left_out(scene, tmp_path):
    faint = scene.gaussians.logit_opacity.clone()
    faint[:100] = -9
    page = tmp_path / "page.html"
    write_page(replace(scene, gaussians=replace(scene.gaussians, logit_opacity=faint)), page, "x", {})
    assert '"count":300' in page.read_text("utf-8")
    nothing = replace(scene.gaussians, logit_opacity=torch.full_like(faint, -9))
    with pytest.raises(RelightError, match="transparent"):
        write_page(replace(scene, gaussians=nothing), tmp_path / "no.html", "x", {})
    with pytest.raises(MissingPartError):
        write_page(replace(scene, gaussians=None), tmp_path / "no.html", "x", {})
    assert not (tmp_path / "no.html").exists()


def test_a_splat_file_becomes_a_page(scene, tmp_path):
    write_splat(scene.gaussians, tmp_path / "balls.ply")
    export_web(tmp_path / "balls.ply", tmp_path / "balls.html")
    assert "balls.ply" in (tmp_path / "balls.html").read_text("utf-8")


def test_the_format_has_a_name_of_its_own(tmp_path):
    if "web" not in formats():
        pytest.skip("relight is not installed with its entry points; pip install -e .")
    with pytest.raises(RelightError):
        export(tmp_path / "missing", tmp_path / "page.html", "web")
