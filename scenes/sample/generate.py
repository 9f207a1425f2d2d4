"""Renders the sample capture: python scenes/sample/generate.py [--out FOLDER] [--samples N]

Needs Mitsuba 3 (pip install -e ".[reference]") and a recent LLVM library (tried with 19; DRJIT_LIBLLVM_PATH names it
where Mitsuba doesn't find it).  The files it writes are in the repository, so nobody has to run it; README.md beside
this file says what they mean.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import mitsuba as mi
import numpy as np
from contents import (
    FOV,
    LIGHTS,
    Array,
    Material,
    Thing,
    cameras,
    environment,
    environment_directions,
    things,
)

SIZE = 200
PASS_SAMPLES = 64
"""Samples a pixel in one kernel launch: bounds memory."""
DEPTH_UNIT = 1e-4
"""World units of one step of the 16-bit depth maps."""
TRAIN_LIGHT = next(iter(LIGHTS))


def texture(values: float | Array) -> dict[str, Any] | float:
    """A Mitsuba texture of linear values: a colour, a number, or an image of either."""
    values = np.asarray(values, dtype=np.float32)
    if values.ndim == 0:
        return float(values)
    if values.shape == (3,):
        return {"type": "rgb", "value": values.tolist()}
    bitmap = mi.Bitmap(np.ascontiguousarray(values if values.ndim == 3 else values[..., None]))
    return {"type": "bitmap", "bitmap": bitmap, "raw": True, "filter_type": "bilinear", "wrap_mode": "repeat"}


def principled(material: Material) -> dict[str, Any]:
    return {
        "type": "principled",
        "base_color": texture(material.base_color),
        "roughness": texture(material.roughness),
        "metallic": material.metallic,
        "specular": 0.5,
    }


def mesh(thing: Thing) -> Any:
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(principled(thing.material))
    shape = thing.shape
    result = mi.Mesh(thing.name, len(shape.positions), len(shape.faces), properties, True, True)
    parameters = mi.traverse(result)
    parameters["vertex_positions"] = mi.Float(shape.positions.astype(np.float32).ravel())
    parameters["vertex_normals"] = mi.Float(shape.normals.astype(np.float32).ravel())
    parameters["vertex_texcoords"] = mi.Float(shape.uv.astype(np.float32).ravel())
    parameters["faces"] = mi.UInt32(shape.faces.astype(np.uint32).ravel())
    parameters.update()
    return result


def build(meshes: list[Any], light_file: Path) -> Any:
    """The scene under one environment map, read from the file that is handed out."""
    # Mitsuba's maps have +Y up and u = atan2(x, -z) / 2 pi; ours, see environment_directions.
    axes = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float)
    emitter = {"type": "envmap", "filename": str(light_file), "to_world": mi.ScalarTransform4f(axes)}
    return mi.load_dict({"type": "scene", "emitter": emitter} | {f"mesh{i}": m for i, m in enumerate(meshes)})


def check_lookup(scene: Any, picture: Array) -> None:
    """Mitsuba must see the environment where the documented formula says it is."""
    directions = environment_directions(*picture.shape[:2])[8:-8:5, ::7].reshape(-1, 3)
    expected = picture[8:-8:5, ::7].reshape(-1, 3)
    interaction = mi.SurfaceInteraction3f()
    interaction.wi = mi.Vector3f(*(-directions.T).astype(np.float32))
    found = np.array(scene.environment().eval(interaction)).T
    # Mitsuba stretches rows so that the first and last lie on the poles: half a row of difference at most.
    error = np.abs(found - expected).mean() / expected.mean()
    if error > 0.05:
        raise RuntimeError(f"environment lookup: mean relative error {error:.3f} against the documented convention")


def sensor(pose: Array) -> Any:
    # Mitsuba's cameras look along +z with +x to the left; OpenGL's along -z with +x to the right.
    to_world = pose @ np.diag([-1.0, 1.0, -1.0, 1.0])
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.degrees(FOV)),
            "to_world": mi.ScalarTransform4f(to_world),
            "film": {
                "type": "hdrfilm",
                "width": SIZE,
                "height": SIZE,
                "pixel_format": "rgba",
                "component_format": "float32",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "multijitter", "sample_count": PASS_SAMPLES},
        }
    )


def path_trace(scene: Any, pose: Array, samples: int, seed: int) -> Array:
    """(H, W, 4) linear, straight alpha; the environment itself is not in the picture."""
    integrator = mi.load_dict({"type": "path", "max_depth": 6, "rr_depth": 6, "hide_emitters": True})
    passes = max(1, samples // PASS_SAMPLES)
    camera = sensor(pose)
    total = np.zeros((SIZE, SIZE, 4))
    for i in range(passes):
        spp = min(samples, PASS_SAMPLES)
        total += np.array(mi.render(scene, sensor=camera, integrator=integrator, spp=spp, seed=seed * 1000 + i))
    total /= passes
    alpha = total[..., 3:]
    return np.concatenate([total[..., :3] / np.maximum(alpha, 1e-6), alpha], -1)


def _camera_rays(pose: Array, offsets: Array) -> Any:
    """Rays through each pixel at each of the (S, 2) offsets in [0, 1); order (H, W, S)."""
    y, x = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    pixels = np.stack([x, y], -1)[:, :, None, :] + offsets
    focal = SIZE / (2 * np.tan(FOV / 2))
    local = np.concatenate([(pixels - SIZE / 2) * [1, -1] / focal, np.full((*pixels.shape[:-1], 1), -1.0)], -1)
    world = local.reshape(-1, 3) @ pose[:3, :3].T
    # Not normalised: the distance along such a ray is the depth along the viewing axis.
    return mi.Ray3f(mi.Point3f(pose[:3, 3].tolist()), mi.Vector3f(*world.T.astype(np.float32)))


def ground_truth(meshes: list[Any], scene: Any, contents: list[Thing], pose: Array, side: int = 8) -> dict[str, Array]:
    """Maps of one view, straight (divided by coverage).

    base_color (H, W, 3), roughness, metallic (H, W), normal (H, W, 3): means over side x side points a pixel.
    depth (H, W), id (H, W): at the pixel centre; 0 where nothing is hit.
    """
    grid = (np.arange(side) + 0.5) / side
    offsets = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    hit = scene.ray_intersect(_camera_rays(pose, offsets))
    values = np.zeros((SIZE * SIZE * side * side, 8))
    for shape, thing in zip(meshes, contents, strict=True):
        here = np.array(hit.shape == mi.ShapePtr(shape))
        for channels, value in ((slice(0, 3), thing.material.base_color), (slice(3, 4), thing.material.roughness)):
            if isinstance(value, float) or np.ndim(value) == 1:
                values[here, channels] = value
            else:
                lookup = mi.load_dict(texture(value))
                found = lookup.eval(hit) if np.ndim(value) == 3 else lookup.eval_1(hit)
                values[here, channels] = np.array(found).reshape(-1, len(hit.t)).T[here]
        values[here, 4] = thing.material.metallic
    values[:, 5:] = np.array(hit.sh_frame.n).T
    covered = np.array(hit.is_valid())
    values[~covered] = 0
    coverage = np.maximum(covered.reshape(SIZE, SIZE, -1).sum(-1), 1)[..., None]
    mean = values.reshape(SIZE, SIZE, side * side, 8).sum(2) / coverage
    normal = mean[..., 5:] / np.maximum(np.linalg.norm(mean[..., 5:], axis=-1, keepdims=True), 1e-6)

    center = scene.ray_intersect(_camera_rays(pose, np.array([[0.5, 0.5]])))
    ids = sum((i + 1) * np.array(center.shape == mi.ShapePtr(shape)) for i, shape in enumerate(meshes))
    depth = np.where(np.array(center.is_valid()), np.array(center.t), 0)
    return {
        "base_color": mean[..., :3],
        "roughness": mean[..., 3],
        "metallic": mean[..., 4],
        "normal": normal,
        "depth": depth.reshape(SIZE, SIZE),
        "id": np.asarray(ids).reshape(SIZE, SIZE),
    }


def encode_srgb(linear: Array) -> Array:
    c = np.clip(linear, 0, 1)
    return np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)


def write_png(path: Path, values: Array, scale: float = 255, kind: type = np.uint8) -> None:
    """Values 0..1 (times `scale` rounded to integers); RGB or RGBA order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    integers = np.clip(np.rint(values * scale), 0, np.iinfo(kind).max).astype(kind)
    if integers.ndim == 3:
        integers = integers[..., [2, 1, 0, *range(3, integers.shape[-1])]]
    if not cv2.imwrite(str(path), integers, [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_STRATEGY, 1]):
        raise OSError(f"cannot write {path}")


def write_photo(path: Path, rgba: Array) -> None:
    alpha = rgba[..., 3:]
    write_png(path, np.concatenate([np.where(alpha > 0, encode_srgb(rgba[..., :3]), 0), alpha], -1))


def write_maps(out: Path, name: str, maps: dict[str, Array]) -> None:
    inside = (maps["normal"] != 0).any(-1, keepdims=True)
    write_png(out / "test_albedo" / name, encode_srgb(maps["base_color"]))
    write_png(out / "test_roughness" / name, maps["roughness"])
    write_png(out / "test_metallic" / name, maps["metallic"])
    write_png(out / "test_normal" / name, np.where(inside, 0.5 * maps["normal"] + 0.5, 0))
    write_png(out / "test_depth" / name, maps["depth"], 1 / DEPTH_UNIT, np.uint16)
    write_png(out / "test_id" / name, maps["id"], 1)


def write_transforms(path: Path, split: str, poses: list[Array], extra: dict[str, object]) -> None:
    header = {"camera_angle_x": float(FOV), "w": SIZE, "h": SIZE, "environment": f"lights/{TRAIN_LIGHT}.exr"}
    frames = [
        {"file_path": f"{split}/{i:03d}.png", "transform_matrix": np.round(pose, 9).tolist()}
        for i, pose in enumerate(poses)
    ]
    path.write_text(json.dumps(header | extra | {"frames": frames}, indent=1) + "\n", encoding="utf-8")


def generate(out: Path, samples: int) -> None:
    contents = things()
    meshes = [mesh(thing) for thing in contents]
    train = cameras(48, 8, 72)
    test = cameras(8, 16, 52, phase=0.31)
    scenes = {}
    for name, light in LIGHTS.items():
        file = out / "lights" / f"{name}.exr"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = environment(light)
        mi.Bitmap(picture.astype(np.float32)).convert(component_format=mi.Struct.Type.Float16).write(str(file))
        scenes[name] = build(meshes, file)
        check_lookup(scenes[name], picture)

    for i, pose in enumerate(train):
        write_photo(out / "train" / f"{i:03d}.png", path_trace(scenes[TRAIN_LIGHT], pose, samples, seed=i))
        print(f"train {i + 1}/{len(train)}", flush=True)
    for i, pose in enumerate(test):
        name = f"{i:03d}.png"
        for k, (light, scene) in enumerate(scenes.items()):
            folder = "test" if light == TRAIN_LIGHT else f"relight_{light}"
            write_photo(out / folder / name, path_trace(scene, pose, samples, seed=100 * (k + 1) + i))
        write_maps(out, name, ground_truth(meshes, scenes[TRAIN_LIGHT], contents, pose))
        print(f"test {i + 1}/{len(test)}", flush=True)
    write_transforms(out / "transforms_train.json", "train", train, {})
    relights = [light for light in LIGHTS if light != TRAIN_LIGHT]
    write_transforms(
        out / "transforms_test.json",
        "test",
        test,
        {
            "relights": {f"relight_{light}": f"lights/{light}.exr" for light in relights},
            "depth_unit": DEPTH_UNIT,
            "objects": {thing.name: i + 1 for i, thing in enumerate(contents)},
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="default: beside this script")
    parser.add_argument("--samples", type=int, default=512, help="a pixel, a multiple of 64; default 512")
    options = parser.parse_args()
    mi.set_variant("llvm_ad_rgb")
    options.out.mkdir(parents=True, exist_ok=True)
    # Everything is rendered aside and moved into place at the end: a stopped run changes nothing.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=options.out) as temporary:
        generate(Path(temporary), options.samples)
        for file in sorted(p for p in Path(temporary).rglob("*") if p.is_file()):
            target = options.out / file.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)


if __name__ == "__main__":
    main()
