"""A picture of people from file to result: found, cut out, given a shape, relit, put before a background."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from relight.diffusion.pictures.detail import filling
from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.relighters import ImageRelighter, NewLight
from relight.diffusion.portrait.matting import Cut, cut_out, with_alpha
from relight.diffusion.portrait.networks import Face, faces
from relight.diffusion.portrait.relighter import PortraitRelighter
from relight.diffusion.portrait.shape import person
from relight.geometry.camera import Camera


@dataclass(frozen=True)
class Sitting:
    """faces: largest first.  geometry: of whatever the cut has some of."""

    faces: tuple[Face, ...]
    cut: Cut
    geometry: Geometry

    @staticmethod
    def of(picture: Tensor, alpha: Tensor | None = None, camera: Camera | None = None) -> Sitting:
        """Of (H, W, 3) sRGB.  alpha: (H, W) that the user gave; it always wins.  camera: see `shape.person`.

        Raises NobodyError if nobody is found and no alpha is given.
        """
        found = tuple(faces(picture))
        cut = cut_out(picture, found) if alpha is None else with_alpha(picture, alpha)
        there = tuple(face for face in found if bool((cut.alpha > 0.5)[_pixels(face, cut.alpha)].any()))
        return Sitting(there, cut, person(cut.front, cut.mask, there, camera))

    def lit(
        self,
        light: NewLight,
        *,
        refiner: ImageRelighter | None = None,
        share: float = 0.0,
        gloss: float = 0.5,
        keep_colours: float = 1.0,
        seed: int = 0,
        alone: bool = False,
    ) -> Tensor:
        """(H, W, 3) sRGB in the light, before `light.background`, cut to fill the frame, or what was behind; alone, as
        it goes with `cut.alpha`.
        """
        relighter = PortraitRelighter(
            self.faces, refiner=refiner, share=share, gloss=gloss, keep_colours=keep_colours
        )  # fmt: skip
        front = relighter.relit(self.cut.front, self.geometry, light, seed=seed)
        if alone:
            return front
        behind = light.background
        return self.cut.before(front, None if behind is None else filling(behind, *self.geometry.size))


def _pixels(face: Face, alpha: Tensor) -> tuple[slice, slice]:
    left, top, width, height = face.box.tolist()
    rows, columns = alpha.shape
    y, x = min(max(int(top), 0), rows - 1), min(max(int(left), 0), columns - 1)
    return slice(y, max(y + 1, int(top + height))), slice(x, max(x + 1, int(left + width)))
