"""One click, one object: how well what is selected agrees with the sample scene's object masks.

    relight fit scenes/sample/scene.yaml --until radiance
    python -m benchmarks.selection runs/sample/01-radiance [--teacher efficientnet-lite0 | none]

Every object is clicked on in every test view that shows enough of it, at the pixel farthest from its outline, as is
usual for one-click segmentation.  IoU is over all pixels of all test views together, for each click.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.record import record
from relight.fit.select import Prompt, Selector
from relight.images import read_image
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
    arguments = parser.parse_args()
    scene, seconds = load_scene(arguments.scene), {}
    if arguments.teacher != "none":
        begun = time.perf_counter()
        scene = Features(teacher=arguments.teacher, size=arguments.size).run(scene, MemoryJob(arguments.scene))
        seconds["features"] = time.perf_counter() - begun
    assert scene.views is not None and scene.gaussians is not None
    test = scene.views.test
    masks = [_ids(view.image_path.name) for view in test]
    selector = Selector(replace(scene, mesh=None))
    begun = time.perf_counter()
    assert selector.hierarchies
    seconds["first click"] = time.perf_counter() - begun
    clicks = [
        (view, thing, *_middle(ids == thing + 1))
        for view, ids in zip(test, masks, strict=True)
        for thing in range(len(OBJECTS))
        if (ids == thing + 1).sum() >= FEWEST
    ]
    begun = time.perf_counter()
    shares = [selector.select(Prompt(point=f"{view.name},{x},{y}")).share for view, _, x, y in clicks]
    seconds["each click"] = (time.perf_counter() - begun) / len(clicks)
    both, either = torch.zeros(2, len(clicks))
    for index, ids in enumerate(masks):
        with torch.no_grad():
            camera = test.camera(index)
            drawn = selector.rasterizer.rasterize(scene.gaussians, camera, torch.stack(shares, 1), selector.options)
        chosen = drawn.features > 0.5
        truth = torch.stack([torch.from_numpy(ids == thing + 1) for _, thing, _, _ in clicks], 2)
        both += (chosen & truth).sum((0, 1))
        either += (chosen | truth).sum((0, 1))
    iou = (both / either.clamp_min(1)).tolist()
    each = {name: [v for v, c in zip(iou, clicks, strict=True) if c[1] == i] for i, name in enumerate(OBJECTS)}
    record(
        "selection_one_click" if arguments.teacher != "none" else "selection_one_click_untaught",
        float(np.mean(iou)),
        "IoU",
        detail={
            "title": f"one click selects one of nine objects, {arguments.teacher}",
            "clicks": len(clicks),
            "worst click": min(iou),
            "above 0.85": float(np.mean([v > 0.85 for v in iou])),
            "teacher": arguments.teacher,
            "by object": {name: {"IoU": round(float(np.mean(v)), 3)} for name, v in each.items() if v},
            "seconds": seconds,
        },
    )


def _ids(name: str) -> np.ndarray:
    """(H, W) number of the object at each pixel's centre; 0 for none."""
    return (read_image(SAMPLE / "test_id" / name).rgb[..., 0] * 255).round().int().numpy()


def _middle(mask: np.ndarray) -> tuple[float, float]:
    """x and y of the pixel farthest from the outline."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return float(x) + 0.5, float(y) + 0.5


if __name__ == "__main__":
    main()
