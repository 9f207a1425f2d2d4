"""Editing does what it says: how much else a recolouring changes, and what a deletion leaves, on the sample scene.

    python -m benchmarks.edits runs/sample/01-radiance [--pictures FOLDER]

Each object is selected by one click in a test view, where most of it shows, and turned another colour; the others'
pixels in all test views must stay as they were.  Bleed counts pixels that are farther than `EDGE` from the object.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.record import record
from benchmarks.selection import OBJECTS, SAMPLE, ids_of, middle_of, taught
from relight.export.images import write_image
from relight.fit.select import Prompt, Selector
from relight.render.splats import render
from relight.scene_io import load_scene
from relight.stages.edits import Delete, Recolour
from relight.testing.job import MemoryJob

COLOR = (0.05, 0.95, 0.3)
CHANGED = 4 / 255
"""Of a channel, sRGB-encoded, from which on a pixel has changed."""
EDGE = 2
"""Pixels: the outline's, which show both sides."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", type=Path, help="stage folder of a fit of the sample")
    parser.add_argument("--teacher", default="efficientnet-lite0")
    parser.add_argument("--pictures", type=Path, help="folder: as it was, recoloured, deleted")
    arguments = parser.parse_args()
    scene = replace(taught(load_scene(arguments.scene), arguments.teacher, 512, arguments.scene), mesh=None)
    assert scene.views is not None and scene.gaussians is not None
    test, job, selector = scene.views.test, MemoryJob(arguments.scene), Selector(scene)
    masks = [ids_of(SAMPLE / "test_id" / view.image_path.name) for view in test]

    def pictures(gaussians) -> list[torch.Tensor]:
        with torch.no_grad():
            cameras = (test.camera(i) for i in range(len(test)))
            return [render(selector.rasterizer, gaussians, c, options=selector.options).color for c in cameras]

    before, rows, wide = pictures(scene.gaussians), {}, np.ones((2 * EDGE + 1,) * 2, np.uint8)
    for number, name in enumerate(OBJECTS, 1):
        best = int(np.argmax([(ids == number).sum() for ids in masks]))
        x, y = middle_of(masks[best] == number)
        share = selector.select(Prompt(point=f"{test[best].name},{x},{y}")).share
        channels = {**scene.gaussians.channels, "selection": share}
        selected = replace(scene, gaussians=replace(scene.gaussians, channels=channels))
        recoloured = Recolour(color=COLOR, keep_pattern=False).run(selected, job).gaussians
        after = pictures(recoloured)
        inside = outside = missed = bled = 0
        for old, new, ids in zip(before, after, masks, strict=True):
            changed = ((new - old).abs().amax(-1) > CHANGED).numpy()
            mask = (ids == number).astype(np.uint8)
            core, halo = cv2.erode(mask, wide) > 0, cv2.dilate(mask, wide) > 0
            inside, outside = inside + core.sum(), outside + (~halo & (ids > 0)).sum()
            missed, bled = missed + (core & ~changed).sum(), bled + (~halo & changed).sum()
        rows[name] = {
            "changed inside, %": round(100 * float(1 - missed / max(inside, 1)), 2),
            "changed outside, %": round(100 * float(bled / max(outside, 1)), 2),
        }
        if arguments.pictures is not None and name != "plinth":
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            gone = pictures(Delete().run(selected, job).gaussians)
            write_image(
                arguments.pictures / f"{name}.png", torch.cat([p[best] for p in (before, after, gone)], 1).clamp(0, 1)
            )
    bleed = float(np.mean([row["changed outside, %"] for row in rows.values()]))
    record(
        "edits_bleed",
        bleed,
        "% of the others' pixels",
        detail={
            "title": "pixels of other objects that recolouring one object changes",
            "teacher": arguments.teacher,
            "by object": rows,
        },
    )


if __name__ == "__main__":
    main()
