"""Fitting what is left of a pruned splat, to photographs or to pictures of the splat it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.compress.lattice import Lattice
from relight.compress.looks import Looks, over
from relight.fit.losses import photometric
from relight.fit.parameters import Parameters
from relight.geometry.camera import Camera
from relight.geometry.gaussians import CHANNELS, Gaussians
from relight.render.relit import has_materials
from relight.shading.environment import Environment
from relight.views import Views

JITTER = 0.05
"""Standard deviation of a pseudo view's position, in distances to the scene's centre (LightGaussian: 0.05 units)."""
DSSIM = 0.2


@dataclass(frozen=True)
class Rates:
    """Learning rates, a step, at the start: high, as they fall to a hundredth.  means: in scene radii."""

    means: float = 2e-5
    quats_wxyz: float = 4e-3
    log_scales: float = 2e-2
    logit_opacity: float = 8e-2
    sh_constant: float = 1e-2
    sh_rest: float = 1e-3
    channels: float = 2e-2


RATES = Rates()


@dataclass(frozen=True)
class Teacher:
    """The splat as it was, and from where it is looked at.

    cameras: as many as there are photographs, if there are any.  light: that shaded looks are compared in, turned at
    random about its axis; None for none.  center: (3,) of the scene.
    """

    splat: Gaussians
    cameras: Sequence[Camera]
    looks: Looks
    center: Tensor
    light: Environment | None = None
    photos: Views | None = None


class Student:
    """A splat that learns to look like its teacher.

    template: what it was at first.  radius: of the scene, world units.  lattice: values that a file will leave it,
    which it then learns to live with.
    """

    def __init__(self, splat: Gaussians, radius: float, lattice: Lattice | None = None, rates: Rates = RATES):
        self.template, self.radius, self.rates = splat.detach(), radius, rates
        self.lattice = lattice
        opened = _opened(splat)
        if lattice is not None and lattice.palette is not None:
            opened["sh_rest"] = lattice.palette
        self.parameters = Parameters(opened, dict.fromkeys(opened, 0.0))

    def __len__(self) -> int:
        return len(self.parameters)

    def gaussians(self) -> Gaussians:
        """As it is now, or as the file will have it; differentiable in the parameters."""
        p = self.parameters.tensors
        channels = {k.removeprefix("channels."): _activated(k, v) for k, v in p.items() if k.startswith("channels.")}
        sh = [p["sh_constant"]]
        if "sh_rest" in p:
            labels = None if self.lattice is None else self.lattice.labels
            sh.append(p["sh_rest"] if labels is None else p["sh_rest"][labels])
        splat = replace(
            self.template, means=p["means"], quats_wxyz=p["quats_wxyz"], log_scales=p["log_scales"],
            logit_opacity=p["logit_opacity"], sh=torch.cat(sh, 1), channels=channels,
        )  # fmt: skip
        return splat if self.lattice is None else self.lattice.snapped(splat)

    def step(
        self,
        teacher: Teacher,
        share: float,
        generator: torch.Generator,
        *,
        pseudo: float = 0.5,
    ) -> float:
        """One picture; returns its loss.

        share: of the fit that is done, 0 to 1; rates fall to a hundredth.  pseudo: chance of a view between the
        cameras, where only the teacher knows.
        """
        for name in self.parameters.tensors:
            rate = getattr(self.rates, name.partition(".")[0]) * 0.01**share
            self.parameters.set_rate(name, rate * self.radius if name == "means" else rate)
        loss = self._loss(teacher, generator, pseudo, self.gaussians())
        loss.backward()
        self.parameters.step()
        return float(loss.detach())

    def _loss(self, teacher: Teacher, generator: torch.Generator, pseudo: float, splat: Gaussians) -> Tensor:
        index = int(torch.randint(len(teacher.cameras), (), generator=generator))
        between = float(torch.rand((), generator=generator)) < pseudo
        background = torch.rand(3, generator=generator)
        camera, photos = teacher.cameras[index], teacher.photos
        if photos is not None and not between:
            photo = photos.photo(index).to(splat.means.device)
            found, alpha = teacher.looks.draw(splat, camera)
            expected, mask = photo.rgb, photo.mask
            if photo.alpha is not None:
                expected = over(photo.rgb * photo.alpha[..., None], photo.alpha, background)
                found = over(found, alpha, background)
            return photometric(found[..., :3].permute(2, 0, 1), expected.permute(2, 0, 1), DSSIM, mask)
        if between:
            camera = _moved(camera, teacher.center, generator)
        light = None
        if teacher.light is not None and has_materials(splat):
            light = teacher.light.turned(2 * math.pi * float(torch.rand((), generator=generator)))
        with torch.no_grad():
            expected = over(*teacher.looks.draw(teacher.splat, camera, light), background)
        found = over(*teacher.looks.draw(splat, camera, light), background)
        groups = zip(found.split(3, -1), expected.split(3, -1), strict=True)
        return torch.stack([photometric(a.permute(2, 0, 1), b.permute(2, 0, 1), DSSIM) for a, b in groups]).sum()

    def state(self) -> dict[str, Tensor]:
        return self.parameters.state()

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        self.parameters.restore(saved)


def _moved(camera: Camera, center: Tensor, generator: torch.Generator) -> Camera:
    """A pseudo view (LightGaussian, section 4.2): the camera a little aside."""
    pose = camera.world_from_camera.clone()
    distance = float((camera.position.cpu() - center.cpu()).norm())
    pose[:3, 3] += JITTER * distance * torch.randn(3, generator=generator).to(pose)
    return replace(camera, world_from_camera=pose)


def _opened(splat: Gaussians) -> dict[str, Tensor]:
    """Parameters without limits."""
    out = {name: getattr(splat, name) for name in ("means", "quats_wxyz", "log_scales", "logit_opacity")}
    out["sh_constant"] = splat.sh[:, :1]
    if splat.sh_degree:
        out["sh_rest"] = splat.sh[:, 1:]
    for name, value in splat.channels.items():
        out[f"channels.{name}"] = torch.logit(value, eps=2e-3) if _is_share(name) else value
    return out


def _activated(name: str, value: Tensor) -> Tensor:
    name = name.removeprefix("channels.")
    if name == "normal":
        return normalize(value, dim=-1)
    return torch.sigmoid(value) if _is_share(name) else value


def _is_share(name: str) -> bool:
    return name in CHANNELS and name != "normal"
