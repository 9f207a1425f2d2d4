"""Who teaches a splat that is compressed, and who judges it, on other views."""

from __future__ import annotations

from dataclasses import replace

import torch

from relight.compress.cameras import around
from relight.compress.looks import Looks
from relight.compress.recover import Teacher
from relight.compress.score import Judge
from relight.geometry.camera import evenly
from relight.geometry.gaussians import Gaussians
from relight.render.relit import has_materials
from relight.scene import Scene
from relight.shading.studio import studio


def witnesses(
    scene: Scene,
    original: Gaussians,
    looks: Looks,
    *,
    cameras: int,
    views: int,
    view_size: int,
    assumed: float,
    seed: int,
) -> tuple[Teacher, Judge]:  # fmt: skip
    """Of the scene's photographs where it has some, those held out to judge; else of generated views.

    cameras: generated ones that teach.  views: most that judge.  view_size: pixels of a side of generated ones.
    assumed: decibels, see `Judge`, unless the stage that made the splat said so.
    """
    light, taken = None, scene.views
    if has_materials(original):
        light = None if scene.light is None else scene.light.main
        light = light or studio(64).upright(scene.frame.up)
    # Materials were fitted under light and shadow; looks without shadows can't be held against photographs.
    photos = None if taken is None or light is not None or not len(taken.train) else taken.train
    device = original.means.device
    if taken is not None and len(taken.train):
        teaching = [taken.train.camera(i).to(device) for i in range(len(taken.train))]
    else:
        teaching = around(original, cameras, size=view_size, seed=seed)
    teacher = Teacher(original, teaching, looks, torch.tensor(scene.frame.center), light, photos)
    if taken is not None and len(taken.test):
        some = replace(taken.test, views=tuple(taken.test[i] for i in evenly(len(taken.test), views)))
        judging, known = [some.camera(i).to(device) for i in range(len(some))], None if light is not None else some
    else:
        judging, known = around(original, views, size=view_size, seed=seed + 1), None
    reported = [r.metrics["train_psnr"] for r in scene.history if "train_psnr" in r.metrics]
    judge = Judge(original, judging, looks, photos=known, light=light, assumed=reported[-1] if reported else assumed)
    return teacher, judge
