"""What lit the photographs of a capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from relight.shading.environment import Environment


@dataclass(frozen=True)
class Lighting:
    """maps: by the name that photographs give (`View.light`); one map, of any name, is for all of them.  Empty if
    nothing is known but the frame.
    follows_camera: the maps are in the camera's frame instead of the world's, as on a turntable, where the object turns
    and neither camera nor light does.
    measured: the maps were given with the photographs; a fit keeps them as they are.
    """

    maps: Mapping[str, Environment] = field(default_factory=dict)
    follows_camera: bool = False
    measured: bool = False

    @staticmethod
    def everywhere(light: Environment) -> Lighting:
        """The same for all photographs."""
        return Lighting({"": light})

    @property
    def main(self) -> Environment | None:
        """The first map, as it is; None if there is none."""
        return next(iter(self.maps.values()), None)

    @property
    def of_world(self) -> Environment | None:
        """`main`, if it stands still with the world."""
        return None if self.follows_camera else self.main

    def of(self, name: str | None, camera_from_world: Tensor) -> Environment | None:
        """The light of a photograph in the world's frame; `main` where its name is not known, None without maps.

        camera_from_world: (4, 4) of the photograph.
        """
        light = self.maps.get(name or "", self.main)
        if light is None or not self.follows_camera:
            return light
        return light.rotated(light.rotation @ camera_from_world[:3, :3].to(light.rotation))
