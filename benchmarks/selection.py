"""One click, one object: how well what is selected agrees with the sample scene's object masks.

    relight fit scenes/sample/scene.yaml --until radiance
    python -m benchmarks.selection runs/sample/01-radiance [--teacher efficientnet-lite0 | none]
    python -m benchmarks.selection FIT --split train --masks FOLDER      prints, for choices; records nothing

Every object is clicked on in every test view that shows enough of it, at the pixel farthest from its outline, as is
usual for one-click segmentation.  IoU is over all pixels of all test views together, for each click.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.record import record
from relight.fit.select import Prompt, Selector
from relight.images import read_image
from relight.scene import Scene
from relight.scene_io import load_scene
from relight.stages.features import Features
from relight.testing.job import MemoryJob

SAMPLE = Path(__file__).parents[1] / "scenes" / "sample"
OBJECTS = ("plinth", "bunny", "torus", "cube", "sphere", "cone", "cylinder", "knot", "ball")
FEWEST = 100
"""Pixels of an object in a view that is clicked on."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", type=Path, help="stage folder of a fit of the sample")
    parser.add_argument("--teacher", default="efficientnet-lite0", help="none: colours and shape alone")
    parser.add_argument("--size", type=int, default=512, help="of the features")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--masks", type=Path, help="of another scene or split: PNGs of the objects' numbers")
    parser.add_argument("--every", type=int, default=1, help="which views are clicked on")
    arguments = parser.parse_args()
    scene, seconds = load_scene(arguments.scene), {}
    begun = time.perf_counter()
    scene = taught(scene, arguments.teacher, arguments.size, arguments.scene)
    seconds["features"] = time.perf_counter() - begun
    assert scene.views is not None and scene.gaussians is not None
    views, folder = scene.views.split(arguments.split), arguments.masks or SAMPLE / "test_id"
    masks = [ids_of(folder / view.image_path.name) for view in views]
    selector = Selector(replace(scene, mesh=None))
    begun = time.perf_counter()
    assert selector.hierarchies
    seconds["first click"] = time.perf_counter() - begun
    clicks = [
        (view, thing, *middle_of(ids == thing + 1))
        for view, ids in list(zip(views, masks, strict=True))[:: arguments.every]
        for thing in range(len(OBJECTS))
        if (ids == thing + 1).sum() >= FEWEST
    ]
    begun = time.perf_counter()
    shares = [selector.select(Prompt(point=f"{view.name},{x},{y}")).share for view, _, x, y in clicks]
    seconds["each click"] = (time.perf_counter() - begun) / len(clicks)
    both, either = torch.zeros(2, len(clicks))
    for index, ids in enumerate(masks):
        with torch.no_grad():
            camera = views.camera(index)
            drawn = selector.rasterizer.rasterize(scene.gaussians, camera, torch.stack(shares, 1), selector.options)
        chosen = drawn.features > 0.5
        truth = torch.stack([torch.from_numpy(ids == thing + 1) for _, thing, _, _ in clicks], 2)
        both += (chosen & truth).sum((0, 1))
        either += (chosen | truth).sum((0, 1))
    iou = (both / either.clamp_min(1)).tolist()
    each = {name: [v for v, c in zip(iou, clicks, strict=True) if c[1] == i] for i, name in enumerate(OBJECTS)}
    detail = {
        "title": f"one click selects one of nine objects, {arguments.teacher}",
        "clicks": len(clicks),
        "worst click": min(iou),
        "above 0.85": float(np.mean([v > 0.85 for v in iou])),
        "teacher": arguments.teacher,
        "by object": {name: {"IoU": round(float(np.mean(v)), 3)} for name, v in each.items() if v},
        "seconds": seconds,
    }
    if arguments.masks is not None or arguments.split != "test":
        print(json.dumps({"IoU": float(np.mean(iou)), **detail}))
        return
    name = "selection_one_click" if arguments.teacher != "none" else "selection_one_click_untaught"
    record(name, float(np.mean(iou)), "IoU", detail=detail)


def taught(scene: Scene, teacher: str, size: int, folder: Path) -> Scene:
    """With the teacher's features, unless it has them; none: without."""
    if teacher == "none" and scene.gaussians is not None:
        channels = {k: v for k, v in scene.gaussians.channels.items() if k != "feature"}
        return replace(scene, gaussians=replace(scene.gaussians, channels=channels), feature_basis=None)
    if scene.feature_basis is not None and scene.feature_basis.teacher == teacher:
        return scene
    return Features(teacher=teacher, size=size).run(scene, MemoryJob(folder))


def ids_of(path: Path) -> np.ndarray:
    """(H, W) number of the object at each pixel's centre; 0 for none."""
    return (read_image(path).rgb[..., 0] * 255).round().int().numpy()


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """x and y of the pixel farthest from the outline."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return float(x) + 0.5, float(y) + 0.5


if __name__ == "__main__":
    main()
