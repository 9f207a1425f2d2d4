"""The light of photographs while a fit finds it, or keeps to what is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from relight.fit.moments import moments, restore_moments
from relight.geometry.camera import Camera
from relight.shading.environment import Environment
from relight.shading.learnable import LearnableEnvironment
from relight.shading.lighting import Lighting
from relight.views import View, Views

DARKEST = 1e-3
"""Of the mean: what a start is raised to, so that every texel can be reached by gradients of its logarithm."""


class FittedLighting:
    """One map for each light that the photographs name, under Adam; fixed where `given` was measured.

    given: learned maps begin as its maps of the same size, if it has some.  size: rows of a learned map.
    brightness: its radiance at the start otherwise, linear; 1 is the photographs' white.
    """

    def __init__(self, views: Views, given: Lighting | None, *, size: int, brightness: float, device: torch.device):
        self.given = given or Lighting()
        self.known = self.given.measured and bool(self.given.maps)
        if self.known:
            maps = {k: Environment(m.radiance.to(device), m.rotation.to(device)) for k, m in self.given.maps.items()}
            self.given = replace(self.given, maps=maps)
            return
        self.names = sorted({view.light or "" for view in views})
        begun = [self.given.maps.get(name, self.given.main) for name in self.names]
        self.maps = [
            (LearnableEnvironment.constant(size, brightness) if b is None else LearnableEnvironment(b)).to(device)
            for b in begun
        ]
        self.adam = torch.optim.Adam([m.log_radiance for m in self.maps], lr=0.0)

    @property
    def several(self) -> bool:
        """Photographs of one place differ by their light, so that one captured look can't stand for all of them."""
        return self.given.follows_camera or len(self.given.maps if self.known else self.names) > 1

    def now(self) -> Lighting:
        """Differentiable in what is learned."""
        if self.known:
            return self.given
        lights = {name: m.light() for name, m in zip(self.names, self.maps, strict=True)}
        return Lighting(lights, self.given.follows_camera)

    def found(self) -> Lighting:
        """As it is now, cut off from the fit."""
        if self.known:
            return self.given
        with torch.no_grad():
            maps = {k: Environment(m.radiance.clone(), m.rotation) for k, m in self.now().maps.items()}
        return replace(self.now(), maps=maps)

    def of(self, view: View, camera: Camera) -> Environment:
        """What lights a photograph, in the world's frame; differentiable."""
        lighting = self.given
        if not self.known:
            name = view.light or ""
            one = self.maps[self.names.index(name) if name in self.names else 0].light()
            lighting = Lighting({name: one}, self.given.follows_camera)
        light = lighting.of(view.light, camera.camera_from_world)
        assert light is not None
        return light

    def start(self, radiance: Mapping[str, Tensor]) -> None:
        """Learned maps begin anew at (R, 2R, 3) radiance of any size, by name."""
        for name, values in radiance.items():
            log = self.maps[self.names.index(name)].log_radiance
            finer = interpolate(values.permute(2, 0, 1)[None], log.shape[:2])[0].permute(1, 2, 0)
            with torch.no_grad():
                log.copy_(finer.clamp_min(DARKEST * float(finer.mean())).log())
        self.adam.state.clear()

    def resize(self, rows: int) -> None:
        """Learned maps become this many rows high, as they are."""
        if self.known or self.maps[0].log_radiance.shape[0] == rows:
            return
        for m in self.maps:
            logs = m.log_radiance.detach().permute(2, 0, 1)[None]
            finer = interpolate(logs, (rows, 2 * rows), mode="bilinear", align_corners=False, antialias=True)
            m.log_radiance = torch.nn.Parameter(finer[0].permute(1, 2, 0).contiguous())
        self.adam = torch.optim.Adam([m.log_radiance for m in self.maps], lr=self.adam.param_groups[0]["lr"])

    def whiteness_penalty(self) -> Tensor | float:
        """See `LearnableEnvironment`; mean over the lights."""
        return 0.0 if self.known else sum(m.whiteness_penalty() for m in self.maps) / len(self.maps)

    def set_rate(self, rate: float) -> None:
        if not self.known:
            self.adam.param_groups[0]["lr"] = rate

    def forget(self) -> None:
        """Adam's moments, which were of another loss."""
        if not self.known:
            self.adam.state.clear()

    def step(self) -> None:
        if not self.known:
            self.adam.step()
            self.adam.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs."""
        out: dict[str, Tensor] = {}
        for i, m in enumerate([] if self.known else self.maps):
            out[f"light.{i}"] = m.log_radiance.detach()
            out |= moments(self.adam, m.log_radiance, f"light_adam.{i}.{{}}")
        return out

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        for i, m in enumerate([] if self.known else self.maps):
            self.resize(len(saved[f"light.{i}"]))
            with torch.no_grad():
                m.log_radiance.copy_(saved[f"light.{i}"])
            restore_moments(self.adam, m.log_radiance, saved, f"light_adam.{i}.{{}}")
