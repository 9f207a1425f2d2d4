"""The page that needs no server: a splat, packed, with a few lights baked into its colours, and its own renderer."""

from __future__ import annotations

import base64
import html
import json
import math
from pathlib import Path
from string import Template

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.atomic import replacing
from relight.errors import BackendUnavailableError, MissingPartError, RelightError
from relight.geometry.camera import evenly
from relight.geometry.gaussians import Gaussians
from relight.render.relit import Relit, has_materials
from relight.render.splats import radiance
from relight.render.trajectory import mean_up
from relight.scene import Scene
from relight.shading.color import linear_to_srgb
from relight.shading.lights import Light
from relight.shading.shade import MonteCarlo, shade
from relight.shading.surface import Surface
from relight.shading.tonemap import CURVES

from ..content import load
from ..display import PHOTOGRAPHED, STUDIO
from ..lights import Library

SAMPLES = 48
"""Of light and of material, a Gaussian and light."""
MOST_LIGHTS = 4
FAINT = 1 / 255
"""Gaussians more transparent than this are not written: nobody would see them."""


def export_web(run: Path, output: Path) -> None:
    """Write the page of a run's last stage, a stage folder or a splat file.  See `write_page`.

    Lights: the captured look; with materials, also a studio and the first files of a folder `lights` beside the
    photographs.
    """
    content = load(run)
    write_page(content.scene, output, content.name, capture_lights(content.scene))


def write_page(scene: Scene, output: Path, title: str, lights: dict[str, Light]) -> None:
    """One file that shows the splat in any browser with WebGL2, from a disk too.

    lights: by the name that the visitor chooses; ignored for splats without materials.  Colours are baked: seen
    from straight ahead at each Gaussian, so highlights stay where they are when the visitor moves.
    Raises MissingPartError for a scene without splat, RelightError for one that has nothing to show.
    """
    if scene.gaussians is None:
        raise MissingPartError(f"{output}: the scene holds no splat to show; run a stage that fits one")
    kept = scene.gaussians.opacities >= FAINT
    if not bool(kept.any()):
        raise RelightError(f"{output}: every Gaussian is transparent, so there is nothing to show")
    colors = {PHOTOGRAPHED: captured(scene)}
    if has_materials(scene.gaussians):
        colors |= baked(scene, lights)
    document = pack(scene.gaussians[kept]) | _view(scene)
    document["lights"] = [{"name": name, "colors": _text(_bytes(value[kept]))} for name, value in colors.items()]
    folder = Path(__file__).parent
    # "<" cannot end the element that holds the data if there is none.
    data = json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")
    page = Template((folder / "page.html").read_text("utf-8")).substitute(
        title=html.escape(title), data=data, script=(folder / "player.js").read_text("utf-8")
    )
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def capture_lights(scene: Scene) -> dict[str, Light]:
    """A studio, and lights that came with the photographs."""
    library = Library(None, scene.frame.up)
    library.beside(scene)
    return {("studio" if name == STUDIO else name): library.get(name) for name in library.names()[:MOST_LIGHTS]}


def captured(scene: Scene) -> Tensor:
    """(N, 3) sRGB-encoded captured look, as the cameras saw it on average."""
    assert scene.gaussians is not None
    if scene.views is None or len(scene.views) == 0:
        return radiance(scene.gaussians, scene.gaussians.means.mean(0), 0).clamp(0, 1)
    eyes = [scene.views[i].camera.position for i in evenly(len(scene.views), 16)]
    return torch.stack([radiance(scene.gaussians, eye) for eye in eyes]).mean(0).clamp(0, 1)


def baked(scene: Scene, lights: dict[str, Light]) -> dict[str, Tensor]:
    """(N, 3) sRGB-encoded colour of each Gaussian under each light, with shadows where a tracer is installed."""
    assert scene.gaussians is not None
    try:
        relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    except BackendUnavailableError:
        relit = Relit(scene.gaussians, None, scene.light, extent=scene.frame.radius)
    g, proxy = scene.gaussians, relit.proxy
    normals = g.channels.get("normal")
    if normals is None:
        normals = -g.normals(torch.tensor(scene.frame.center))
    normals = normalize(normals, dim=-1, eps=1e-12)
    surface = Surface(
        position=g.means, normal=normals, view=normals, base_color=g.channels["base_color"],
        roughness=g.channels["roughness"], metallic=g.channels["metallic"],
    )  # fmt: skip
    if proxy is not None:
        surface = proxy.above(surface)
    tracer = None if proxy is None else proxy.tracer
    with torch.no_grad():
        found = {name: shade(surface, light, MonteCarlo(SAMPLES), tracer=tracer) for name, light in lights.items()}
    return {name: linear_to_srgb(CURVES["clip"](value)) for name, value in found.items()}


def pack(gaussians: Gaussians) -> dict[str, object]:
    """What player.js unpacks: 14 bytes a Gaussian, base64 in JSON-like values."""
    low, high = gaussians.means.min(0).values, gaussians.means.max(0).values
    places = ((gaussians.means - low) / (high - low).clamp_min(1e-12) * 65535).round().to(torch.int32)
    scales = gaussians.scales
    if gaussians.surfels:
        scales = torch.cat([scales[:, :2], 1e-3 * scales[:, :2].amin(1, keepdim=True)], 1)
    logs = scales.clamp_min(1e-7 * float((high - low).norm()) + 1e-12).log()
    least, most = float(logs.min()), float(logs.max())
    quats = normalize(gaussians.quats_wxyz, dim=-1)
    return {
        "count": len(gaussians),
        "low": low.tolist(),
        "high": high.tolist(),
        "places": _text(places.numpy().astype("<u2").tobytes()),
        "scale_low": least,
        "scale_high": most,
        "scales": _text(_bytes((logs - least) / max(most - least, 1e-9))),
        "quats": _text(_bytes(0.5 + 0.5 * quats)),
        "opacities": _text(_bytes(gaussians.opacities)),
    }


def _view(scene: Scene) -> dict[str, object]:
    """Where the visitor stands at first: at the first photograph, upright."""
    center = torch.tensor(scene.frame.center)
    up = normalize(torch.tensor(scene.frame.up or (0.0, -1.0, 0.0)), dim=0)
    distance, fov, yaw_from, pitch = 2.5 * scene.frame.radius, math.radians(50), None, 0.4
    if scene.views is not None and len(scene.views):
        if scene.frame.up is None:
            up = mean_up([view.camera for view in scene.views])
        camera = scene.views[0].camera
        yaw_from = camera.position - center
        distance = max(float(yaw_from.norm()), 1e-3 * scene.frame.radius)
        pitch = math.asin(max(-1.0, min(1.0, float(yaw_from @ up) / distance)))
        fov = 2 * math.atan(min(camera.width / camera.fx, camera.height / camera.fy) / 2)
    if yaw_from is None:
        yaw_from = torch.eye(3)[int(up.abs().argmin())]
    ahead = yaw_from - (yaw_from @ up) * up
    if float(ahead.norm()) < 1e-3 * distance:
        ahead = torch.linalg.cross(up, torch.eye(3)[int(up.abs().argmin())])
    view = {"target": center.tolist(), "distance": distance, "yaw": 0.0, "pitch": pitch, "fov": fov}
    return {"up": up.tolist(), "ahead": normalize(ahead, dim=0).tolist(), "view": view}


def _bytes(values: Tensor) -> bytes:
    return (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8).contiguous().numpy().tobytes()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
