"""What shading asks of a scene's geometry."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from relight.shading.surface import Surface


@runtime_checkable
class Tracer(Protocol):
    """Rays against whatever casts shadows.  Keeps rays from hitting the surface they leave: origins lie on it."""

    def occluded(self, origins: Tensor, directions: Tensor, far: Tensor) -> Tensor:
        """(N,) bool: something lies between (N, 3) origins and `far` (N,) world units along (N, 3) unit directions.

        Not differentiated.
        """
        ...

    def trace(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Surface]:
        """(N,) bool, where a ray hits, and the surface there, (N,), seen from the origin; or anything finite."""
        ...


@runtime_checkable
class RadianceTracer(Tracer, Protocol):
    """One that also knows the light that surfaces send, so that no further rays are needed to find it out."""

    def incoming(self, origins: Tensor, directions: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """As `occluded`, and (N, 3) linear radiance that what is hit sends to the origin, 0 where nothing is.

        Not differentiated.
        """
        ...
