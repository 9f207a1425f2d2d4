"""The shape of a face, and light that falls on it."""

from __future__ import annotations

from functools import lru_cache

import torch
from head_picture import SIZE, pictured, shot, under

from relight.diffusion.pictures.lumos.scores import likeness
from relight.diffusion.pictures.relighters import NewLight
from relight.diffusion.portrait.relighter import PortraitRelighter
from relight.diffusion.portrait.shape import person, spline
from relight.diffusion.portrait.sitting import Sitting
from relight.shading.color import luminance, srgb_to_linear


@lru_cache
def sitting(said: str = "direction=front soft") -> Sitting:
    """Found in nothing but the picture; the camera says where the world is."""
    return Sitting.of(pictured(said), None, shot().geometry.camera)


def test_a_spline_goes_through_its_points():
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(300, 2, generator=generator) * 40 + 4
    points = torch.cat([flat, (0.02 * (flat - 24).square().sum(1))[:, None]], 1)
    depth, there = spline(points, (48, 48))
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    true = 0.02 * ((x - 24) ** 2 + (y - 24) ** 2)
    assert float((depth - true)[there].abs().mean()) < 0.1 and float(there.float().mean()) > 0.5


def test_a_nose_stands_out_of_a_face_as_no_outline_tells():
    picture, mask, sat = pictured(), shot().geometry.mask, sitting()
    (face,) = sat.faces
    x, y = face.points[face.points[:, 2].argmin(), :2].tolist()
    rows = slice(round(y - 0.25 * face.size), round(y))
    columns = slice(round(x - 0.12 * face.size), round(x + 0.12 * face.size))

    def sideways(normal: torch.Tensor) -> torch.Tensor:
        return normal[rows, columns, 0].flatten() - normal[rows, columns, 0].mean()

    true = sideways(shot().geometry.normal_in_camera)
    assert float(torch.cosine_similarity(sideways(sat.geometry.normal_in_camera), true, 0)) > 0.6
    # Chins stand before necks, and an outline alone is still a shape.
    chin = int(face.points[:, 1].max())
    neck = min(SIZE - 1, chin + round(0.12 * face.size))
    assert float(sat.geometry.depth[chin - 4, round(x)]) < float(sat.geometry.depth[neck, round(x)])
    assert float(person(picture, mask, ()).normal_in_camera[mask][:, 2].median()) < -0.6


def test_light_comes_from_where_it_was_asked_from_and_detail_stays():
    sat = sitting()
    for said, sides in (("direction=left soft", (0, 1)), ("direction=right soft", (1, 0))):
        light, truth = under(said), pictured(said)
        made = sat.lit(light)
        head = made[SIZE // 5 : SIZE // 2, SIZE // 3 : 2 * SIZE // 3]
        halves = head[:, : head.shape[1] // 2].mean(), head[:, head.shape[1] // 2 :].mean()
        assert halves[sides[0]] > 1.2 * halves[sides[1]]
        mask = shot().geometry.mask
        assert likeness(made, truth, mask)["PSNR, dB"] > 1.5 + likeness(pictured(), truth, mask)["PSNR, dB"]
        # What is not the person stays as it is.
        out = sat.cut.alpha < 0.01
        torch.testing.assert_close(made[out], pictured()[out], atol=0.01, rtol=0)


def test_hues_stay_and_a_background_is_behind():
    sat = sitting()
    behind = torch.zeros(40, 80, 3)
    behind[..., 1] = 0.6
    light = under("direction=top-left soft")
    made = sat.lit(NewLight(light.lights, light.exposure, background=behind), gloss=0.0)
    assert torch.allclose(made[2, 2], torch.tensor([0.0, 0.6, 0.0]), atol=1e-3)
    sure = (sat.cut.alpha > 0.99) & (luminance(srgb_to_linear(made)) > 0.05) & (made.amax(-1) < 0.8)
    own, new = (srgb_to_linear(x)[sure] for x in (pictured(), made))
    own, new = own / own.sum(1, keepdim=True), new / new.sum(1, keepdim=True)
    assert float((own - new).abs().mean()) < 0.02


def test_the_old_light_gives_the_old_picture():
    said = "direction=front soft"
    made = sitting(said).lit(under(said), gloss=0.0)
    assert likeness(made, pictured(said), shot().geometry.mask)["PSNR, dB"] > 17


def test_a_refiner_has_its_share():
    class Dark:
        def relit(self, picture, geometry, light, *, seed=0):
            return picture * 0.2

    sat, light = sitting(), under("direction=left soft")
    mask = sat.cut.alpha > 0.9
    brightness = [
        float(PortraitRelighter(sat.faces, refiner=Dark(), share=share)
              .relit(sat.cut.front, sat.geometry, light)[mask].mean())
        for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    assert brightness[0] > brightness[1] > brightness[2]
