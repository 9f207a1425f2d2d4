"""What each data set of the field gives as truth, and how its papers compare with it; read in their public code.

tensoir             Jin et al., CVPR 2023.  train_NNN, test_NNN with rgba.png; test views have albedo.png, normal.png
                    and rgba_LIGHT.png.  Legacy: white behind, whole pictures, means of PSNR; albedo.png counts as
                    linear; one factor a channel, the median over 20 views, on albedo before relighting; normals over
                    all pixels, (0, 0, 1) behind.
synthetic4relight   Zhang et al. (InvRender), CVPR 2022.  train/NNN_rgb.exr with NNN_mask.png, test/NNN_rgba.png,
                    NNN_albedo.png, NNN_rough.png, test_rli/LIGHT_NNN.png for envmap6 and envmap12.  Legacy, as R3DG has
                    it: factors are the medians of the first view (R3DG keeps them as constants); albedo as stored; mean
                    squared error of roughness over whole pictures.
shiny               Verbin et al. (Ref-NeRF), CVPR 2022.  Novel views over white and normals; no public truth of
                    relighting.
orb                 Kuang et al. (Stanford-ORB), NeurIPS 2023.  blender_HDR/SCENE with masks; transforms_novel.json
                    names photographs of the object in other scenes, whose light is ground_truth/SCENE/env_map/NNNN.exr,
                    in the camera's frame.  Legacy: 512 pixels, mask eroded by 5x5, error averaged over whole pictures;
                    relit pictures scaled a picture and channel by least squares; PSNR-H of linear values brightened by
                    mean sRGB over mean linear and clipped at 4, PSNR-L of sRGB clipped at 1; neither below that of a
                    grey object.  Meshes, depth and normals are left to ORB's own code.

Written from that code and tested on made-up scenes in each layout; none of the sets was at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from relight.data.common import OPENCV_FROM_OPENGL, checked_pose, number, pinhole, read_json
from relight.data.environments import load_environment
from relight.errors import DataError
from relight.fit.evaluate import evaluate, means, psnr
from relight.fit.losses import mean_ssim
from relight.fit.lpips import Lpips
from relight.fit.relighting import Truth, measure
from relight.images import image_size, read_image
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit import Relit
from relight.render.splats import create_rasterizer
from relight.resize import averaged
from relight.scene import Scene
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.environment import Environment
from relight.views import View, Views

Row = dict[str, float]
"""A column's number."""
OURS = {"ours, unscaled": "unscaled", "ours, one factor": "global", "ours, per channel": "per channel"}
LEGACY = "legacy"
BLENDER = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
"""env_from_world of maps that are looked up at u = 0.5 - atan2(y, x) / 2 pi, v = acos(z) / pi (TensoIR, R3DG)."""
CAMERA = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""env_from_camera, of a camera with OpenGL axes, of maps at u = 0.5 + atan2(x, -z) / 2 pi, v = acos(y) / pi (ORB)."""


@dataclass(frozen=True)
class Settings:
    """lights: folder of maps.  samples: a point.  every: relight each so many views only."""

    lights: Path
    samples: int = 64
    every: int = 1
    lpips: Lpips | None = None


@dataclass(frozen=True)
class Dataset:
    """marker: a file that folders of scenes hold.  inside: where they lie.  size: of pictures, pixels.
    score: rows by protocol, of a distilled scene whose capture is in a folder.
    """

    title: str
    columns: tuple[str, ...]
    score: Callable[[Scene, Path, Settings], dict[str, Row]]
    marker: str
    size: int = 800
    inside: str = "."
    note: str = ""

    def captures(self, folder: Path, names: Sequence[str] | None) -> list[Path]:
        """Folders of scenes.  Raises DataError."""
        place = folder / self.inside
        below = sorted(place.iterdir()) if place.is_dir() else []
        found = {p.name: p for p in below if (p / self.marker).is_file()}
        if not found:
            raise DataError(f"{place}: no scenes of {self.title}; expected folders with {self.marker}")
        if missing := [name for name in names or () if name not in found]:
            raise DataError(f"{place}: no scene {missing[0]}; there are {', '.join(found)}")
        return [found[name] for name in names or found]


def relit_of(scene: Scene) -> Relit:
    return Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)


def tests_of(scene: Scene) -> Views:
    if scene.views is None or len(scene.views.test) == 0:
        raise DataError("the scene has no test views; the data set's test pictures are missing")
    return scene.views.test


# TensoIR synthetic, Synthetic4Relight: one truth for both protocols.


def tensoir_truth(views: Views, lights: Path) -> Truth:
    """Raises DataError for a light without a map."""
    folders = [view.image_path.parent for view in views]
    names = sorted(p.stem.removeprefix("rgba_") for p in folders[0].glob("rgba_*.png"))
    relit = {n: (blender_light(lights, n), [f / f"rgba_{n}.png" for f in folders]) for n in names}
    albedo, normal = ([f / f"{kind}.png" for f in folders] for kind in ("albedo", "normal"))
    return _existing(Truth(albedo, normal=normal, relit=relit, albedo_is_linear=True))


def synthetic4relight_truth(views: Views, lights: Path) -> Truth:
    """Raises DataError for a light without a map."""
    stems = [view.image_path.stem.removesuffix("_rgba") for view in views]
    test = views[0].image_path.parent
    names = sorted({p.name.split("_")[0] for p in (test.parent / "test_rli").glob("*_*.png")})
    relit = {
        n: (blender_light(lights, n), [test.parent / "test_rli" / f"{n}_{stem}.png" for stem in stems]) for n in names
    }
    albedo, roughness = ([test / f"{stem}_{kind}.png" for stem in stems] for kind in ("albedo", "rough"))
    return _existing(Truth(albedo, roughness, relit=relit, albedo_is_linear=True))


def shiny_truth(views: Views) -> Truth:
    paths = [v.image_path.with_name(f"{v.image_path.stem}_normal.png") for v in views]
    return _existing(Truth(normal=paths))


def _existing(truth: Truth) -> Truth:
    pictures = [p for _, paths in truth.relit.values() for p in paths]
    for path in (*truth.albedo, *truth.roughness, *truth.normal, *pictures):
        if not path.is_file():
            raise DataError(f"{path}: no such picture of truth; download the data set again")
    return truth


def blender_light(folder: Path, name: str) -> Environment:
    """The map NAME.hdr or NAME.exr, as TensoIR and R3DG look it up.  Raises DataError."""
    found = next((p for p in (folder / f"{name}.hdr", folder / f"{name}.exr") if p.is_file()), None)
    if found is None:
        raise DataError(f"light {name}: neither {folder / name}.hdr nor .exr; name the folder of maps with --lights")
    return Environment(load_environment(found).radiance, torch.tensor(BLENDER))


def score_tensoir(scene: Scene, capture: Path, settings: Settings) -> dict[str, Row]:
    views = tests_of(scene)
    return _scored(scene, views, tensoir_truth(views, settings.lights), settings, scale_views=20)


def score_synthetic4relight(scene: Scene, capture: Path, settings: Settings) -> dict[str, Row]:
    views = tests_of(scene)
    return _scored(scene, views, synthetic4relight_truth(views, settings.lights), settings, scale_views=1)


def score_shiny(scene: Scene, capture: Path, settings: Settings) -> dict[str, Row]:
    views = tests_of(scene)
    rows = _scored(scene, views, shiny_truth(views), settings, scale_views=1)
    return {"ours": rows["ours, unscaled"], LEGACY: rows[LEGACY]}


def _scored(scene: Scene, views: Views, truth: Truth, settings: Settings, *, scale_views: int) -> dict[str, Row]:
    relit, estimator = relit_of(scene), FastMonteCarlo(settings.samples)
    found = measure(relit, views, truth, estimator, every=settings.every, lpips=settings.lpips)
    shared = _novel_views(scene, settings.lpips)
    rows: dict[str, Row] = {}
    for label, alignment in OURS.items():
        row = dict(shared)
        if "normal MAE, degrees" in found:
            row["normal MAE"] = found["normal MAE, degrees"]["foreground"]
        if "roughness MSE" in found:
            row["rough. MSE"] = found["roughness MSE"]["foreground"]
        if "albedo" in found:
            scores = found["albedo"][alignment]
            row["albedo PSNR"] = scores["sRGB, foreground"]
            row |= {f"albedo {key}": scores[key] for key in ("SSIM", "LPIPS") if key in scores}
        if truth.relit:
            scores = found["relit, mean"][alignment]
            row["relit PSNR"] = scores["PSNR, foreground"]
            row |= {f"relit {key}": scores[key] for key in ("SSIM", "LPIPS") if key in scores}
        rows[label] = row
    rows[LEGACY] = dict(shared)
    for column, key in (("normal MAE", "normal MAE, degrees"), ("rough. MSE", "roughness MSE")):
        if key in found:
            rows[LEGACY][column] = found[key]["picture"]
    if truth.albedo:
        rows[LEGACY] |= _legacy(relit, views, truth, settings, scale_views)
    return rows


def _novel_views(scene: Scene, lpips: Lpips | None) -> Row:
    """Over white where there are cut-outs, means over pictures."""
    pictures: list[Tensor] = []
    scores = means(evaluate(scene, create_rasterizer(), "test", lambda view, photo, found: pictures.append(found)))
    row = {"NVS PSNR": scores["psnr"], "NVS SSIM": scores["ssim"]}
    if lpips is not None:
        views = tests_of(scene)
        wanted = [_over(views.photo(i).rgb, views.photo(i).alpha) for i in range(len(views))]
        pairs = zip(pictures, wanted, strict=True)
        row["NVS LPIPS"] = fmean(lpips(*(x.permute(2, 0, 1) for x in pair)) for pair in pairs)
    return row


def _legacy(relit: Relit, views: Views, truth: Truth, settings: Settings, scale_views: int) -> Row:
    """Albedo and relighting over white, whole pictures, means over pictures."""
    alphas = [_coverage(views, i) for i in range(len(views))]
    albedo = [_over(_rgb(path, a), a) for path, a in zip(truth.albedo, alphas, strict=True)]
    buffers = [relit.buffer(views.camera(i)) for i in range(len(views))]
    colors = [b.spread(b.surface.base_color) for b in buffers]
    found = [_over(color, b.splat.alpha) for color, b in zip(colors, buffers, strict=True)]
    chosen = range(0, len(views), max(1, len(views) // scale_views))[:scale_views]
    ratio = torch.cat([(albedo[i] / found[i].clamp_min(1e-6))[alphas[i] > 0] for i in chosen])
    scale = ratio.median(0).values
    aligned = [
        torch.where((a > 0)[..., None], _over((color * scale).clamp(0, 1), b.splat.alpha), 1.0)
        for color, b, a in zip(colors, buffers, alphas, strict=True)
    ]
    row = {f"albedo {k}": v for k, v in _mean_likeness(aligned, albedo, settings.lpips).items()}
    pictures, wanted = [], []
    for light, paths in truth.relit.values():
        for i in range(0, len(views), settings.every):
            linear = relit.under(views.camera(i), light, FastMonteCarlo(settings.samples), scale=scale, seed=i)
            straight = linear[..., :3] / linear[..., 3:].clamp_min(1e-6)
            pictures.append(_over(linear_to_srgb(straight.clamp(0, 1)), linear[..., 3]))
            wanted.append(_over(_rgb(paths[i], alphas[i]), alphas[i]))
    return row | {f"relit {k}": v for k, v in _mean_likeness(pictures, wanted, settings.lpips).items()}


def _coverage(views: Views, index: int) -> Tensor:
    photo = views.photo(index)
    return torch.ones(photo.rgb.shape[:2]) if photo.alpha is None else photo.alpha


def _rgb(path: Path, like: Tensor) -> Tensor:
    """(H, W, 3) as stored, at the size of (H, W) `like`."""
    rgb = read_image(path).rgb
    if rgb.shape[:2] == like.shape:
        return rgb
    return averaged(rgb, *like.shape)


def _over(rgb: Tensor, alpha: Tensor | None) -> Tensor:
    return rgb if alpha is None else rgb * alpha[..., None] + 1 - alpha[..., None]


def _mean_likeness(found: Sequence[Tensor], wanted: Sequence[Tensor], lpips: Lpips | None) -> Row:
    out: dict[str, list[float]] = {"PSNR": [], "SSIM": []} | ({} if lpips is None else {"LPIPS": []})
    for f, w in zip(found, wanted, strict=True):
        x, y = (t.permute(2, 0, 1).contiguous() for t in (f, w))
        out["PSNR"].append(min(psnr(f, w), 100.0))
        out["SSIM"].append(float(mean_ssim(x, y)))
        if lpips is not None:
            out["LPIPS"].append(lpips(x, y))
    return {key: fmean(values) for key, values in out.items()}


# Stanford-ORB


def orb_novel(capture: Path, size: int | None) -> tuple[Views, list[Environment]]:
    """What transforms_novel.json names, with cameras in the capture's world.  Raises DataError."""
    file = capture / "transforms_novel.json"
    views, lights = [], []
    for i, frame in enumerate(read_json(file).get("frames", [])):
        where = f"{file}: frame {i}"
        if not isinstance(frame, dict) or not {"scene_name", "file_path", "transform_matrix"} <= set(frame):
            raise DataError(
                f"{where}: expected scene_name, file_path and transform_matrix; download the data set again"
            )
        image = capture.parent / frame["scene_name"] / f"{frame['file_path']}.exr"
        opengl = checked_pose(frame["transform_matrix"], where)
        width, height = image_size(image)
        focal = 0.5 * width / math.tan(number(frame, "camera_angle_x", where) / 2)
        camera = pinhole(opengl @ OPENCV_FROM_OPENGL, focal, focal, width / 2, height / 2, width, height, where)
        mask = Path(f"{image.parent}_mask") / f"{image.stem}.png"
        views.append(View(f"{frame['scene_name']}/{image.stem}", image, camera, "test", mask_path=mask))
        map_file = capture.parents[1] / "ground_truth" / frame["scene_name"] / "env_map" / f"{image.stem}.exr"
        turn = torch.tensor(CAMERA) @ opengl[:3, :3].mT
        lights.append(Environment(load_environment(map_file).radiance, turn))
    if not views:
        raise DataError(f"{file}: no frames; download the data set again")
    return Views(tuple(views), size), lights


def orb_scores(found: Tensor, photo_linear: Tensor, mask: Tensor, *, aligned: bool, lpips: Lpips | None) -> Row:
    """found, photo_linear: (H, W, 3) linear.  mask: (H, W), 0 to 1.  aligned: scaled by least squares, per channel."""
    inside = _eroded(mask > 0.5)
    found, wanted = found.clamp_min(0) * inside[..., None], photo_linear.clamp_min(0) * inside[..., None]
    dull = wanted.clamp(0, 1).mean()
    bright = linear_to_srgb(wanted.clamp(0, 1)).mean() / dull if float(dull) > 1e-8 else torch.tensor(1.0)
    scale = (found * wanted).sum((0, 1)) / (found * found).sum((0, 1)).clamp_min(1e-12) if aligned else torch.ones(3)
    high = [(x * bright).clamp(0, 4) for x in (found * scale, wanted)]
    low = [linear_to_srgb(x.clamp(0, 1)) for x in (found * scale, wanted)]
    row = {}
    for name, (f, w) in (("PSNR-H", high), ("PSNR-L", low)):
        row[name] = min(max(psnr(f, w), psnr(0.5 * inside[..., None].expand_as(w), w)), 100.0)
    x, y = (t.permute(2, 0, 1).contiguous() for t in low)
    row["SSIM"] = float(mean_ssim(x, y))
    return row if lpips is None else {**row, "LPIPS": lpips(x, y)}


def _eroded(mask: Tensor) -> Tensor:
    """(H, W) without the outermost 2 pixels; the picture's edge doesn't count as outside."""
    return max_pool2d((~mask).float()[None, None], 5, 1, 2)[0, 0] < 0.5


def score_orb(scene: Scene, capture: Path, settings: Settings) -> dict[str, Row]:
    relit, views = relit_of(scene), tests_of(scene)
    columns: dict[str, dict[str, list[Row]]] = {LEGACY: {"NVS": [], "relit": []}, "ours, unscaled": {"relit": []}}
    for i in range(len(views)):
        color, alpha = relit.photographed(views.camera(i))
        straight = srgb_to_linear(color / alpha[..., None].clamp_min(1e-6)) * alpha[..., None]
        photo = views.photo(i)
        columns[LEGACY]["NVS"].append(
            orb_scores(straight, photo.linear(), _coverage(views, i), aligned=False, lpips=settings.lpips)
        )
    novel, lights = orb_novel(capture, views.max_size)
    for i in range(0, len(novel), settings.every):
        linear = relit.under(novel.camera(i), lights[i], FastMonteCarlo(settings.samples), seed=i)[..., :3]
        photo = novel.photo(i)
        for protocol, aligned in ((LEGACY, True), ("ours, unscaled", False)):
            columns[protocol]["relit"].append(
                orb_scores(linear, photo.linear(), _coverage(novel, i), aligned=aligned, lpips=settings.lpips)
            )
    return {
        protocol: {f"{kind} {key}": fmean(r[key] for r in rows) for kind, rows in kinds.items() for key in rows[0]}
        for protocol, kinds in columns.items()
    }


def _columns(*kinds: str, measures: tuple[str, ...] = ("PSNR", "SSIM", "LPIPS")) -> tuple[str, ...]:
    return tuple(f"{kind} {name}" for kind in kinds for name in measures)


_WHITE = "legacy: white behind, whole pictures, one factor a channel before relighting; ours: of the object's pixels"
DATASETS = {
    "tensoir": Dataset(
        "TensoIR synthetic", (*_columns("NVS"), "normal MAE", *_columns("albedo", "relit")), score_tensoir,
        "train_000/metadata.json", note=_WHITE,
    ),
    "synthetic4relight": Dataset(
        "Synthetic4Relight", (*_columns("NVS", "relit", "albedo"), "rough. MSE"), score_synthetic4relight,
        "transforms_train.json", note=_WHITE,
    ),
    "shiny": Dataset(
        "Shiny Blender", (*_columns("NVS"), "normal MAE"), score_shiny, "transforms_train.json",
        note="legacy: normals over whole pictures; ours: of the object's pixels",
    ),
    "orb": Dataset(
        "Stanford-ORB", _columns("NVS", "relit", measures=("PSNR-H", "PSNR-L", "SSIM", "LPIPS")), score_orb,
        "transforms_train.json", size=512, inside="blender_HDR",
        note="legacy: relit pictures scaled a picture and channel; SSIM with a window of 11 pixels, ORB's own has 3",
    ),
}  # fmt: skip
