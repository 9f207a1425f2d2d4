"""Faces are found, and people cut out, without what was behind them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from head_picture import SIZE, WALL, pictured, shot

from relight.diffusion.portrait.matting import NobodyError, cut_out, refined, with_alpha
from relight.diffusion.portrait.networks import faces
from relight.errors import ShapeError
from relight.images import read_image


def test_a_face_is_found_where_it_is():
    (face,) = faces(pictured())
    skin = shot().geometry.mask & (pictured()[..., 0] > pictured()[..., 2])
    rows, columns = skin.nonzero().unbind(1)
    x, y = face.middle.tolist()
    assert abs(x - float(columns.float().mean())) < 0.03 * SIZE and abs(y - float(rows.float().mean())) < 0.1 * SIZE
    # The tip of the nose is nearest, in the middle, and about halfway down.
    nose = face.points[face.points[:, 2].argmin()]
    assert abs(float(nose[0]) - SIZE / 2) < 0.03 * SIZE and face.points.shape == (468, 3)
    assert float(face.points[:, 1].min()) < float(nose[1]) < float(face.points[:, 1].max())


def test_a_face_that_is_turned_upright_again_is_the_same():
    picture = pictured()
    turned = torch.zeros(SIZE + 60, SIZE + 20, 3)
    turned[50 : 50 + SIZE, 10 : 10 + SIZE] = picture
    (face,), (moved,) = faces(picture), faces(turned)
    assert float((moved.points[:, :2] - face.points[:, :2] - torch.tensor([10.0, 50.0])).norm(dim=1).median()) < 2.5


def test_nobody_is_not_found():
    empty = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)) * 0.1 + WALL * 0.9
    assert faces(empty) == []
    with pytest.raises(NobodyError, match="--matte"):
        cut_out(empty, [])


def test_the_cut_is_that_of_the_head_and_mixes_to_the_picture():
    picture, mask = pictured(), shot().geometry.mask
    cut = cut_out(picture, faces(picture))
    both = float(((cut.alpha > 0.5) & mask).sum()) / float(((cut.alpha > 0.5) | mask).sum())
    assert both > 0.96
    torch.testing.assert_close(cut.before(cut.front), picture, atol=0.01, rtol=0)


def test_nothing_of_the_old_background_is_left_around_the_subject():
    line = (torch.arange(80) + 0.5) / 40 - 1
    alpha = ((0.75 - (line[None] ** 2 + line[:, None] ** 2).sqrt()) * 6 + 0.5).clamp(0, 1)
    orange, blue, green = torch.tensor([[0.8, 0.5, 0.2], [0.1, 0.2, 0.9], [0.0, 0.5, 0.0]]).view(3, 1, 1, 3)
    picture = torch.lerp(blue.expand(80, 80, 3), orange, alpha[..., None])
    cut = with_alpha(picture, alpha)
    torch.testing.assert_close(cut.before(cut.front), picture, atol=1e-3, rtol=0)
    soft = (alpha > 0.1) & (alpha < 0.9)
    found = cut.before(cut.front, green.expand(80, 80, 3))
    true = torch.lerp(green.expand(80, 80, 3), orange, alpha[..., None])
    naive = torch.lerp(green.expand(80, 80, 3), picture, alpha[..., None])
    assert float((found - true)[soft].abs().mean()) < 0.25 * float((naive - true)[soft].abs().mean())


def test_closed_form_finds_an_edge_that_colours_know_and_the_network_doesnt():
    column = torch.arange(60).float()[None].expand(60, 60)
    true = ((column - 33) / 4).clamp(0, 1)
    noise = 0.01 * torch.randn(60, 60, 3, generator=torch.Generator().manual_seed(0))
    picture = torch.lerp(torch.tensor([0.2, 0.3, 0.9]), torch.tensor([0.8, 0.6, 0.4]), true[..., None]) + noise
    rough = ((column - 24) / 12).clamp(0, 1)
    # 60 pixels are less than the network's: its doubt is wide there.
    rough = torch.nn.functional.avg_pool2d(rough[None, None], 9, 1, 4, count_include_pad=False)[0, 0]
    assert float((refined(picture, rough) - true).abs().mean()) < 0.35 * float((rough - true).abs().mean())


def test_an_alpha_of_the_user_wins():
    picture = pictured()
    alpha = torch.zeros(SIZE, SIZE)
    alpha[40:100, 40:100] = 1
    assert torch.equal(with_alpha(picture, alpha).alpha, alpha)
    with pytest.raises(ShapeError):
        with_alpha(picture, alpha[:10])
    with pytest.raises(NobodyError, match="empty"):
        with_alpha(picture, 0 * alpha)


@pytest.mark.skipif("RELIGHT_DATA" not in os.environ, reason="RELIGHT_DATA is not set: no photographs")
def test_real_faces():
    folder = Path(os.environ["RELIGHT_DATA"]) / "people_video"
    found = faces(read_image(folder / "us_gov_portraits" / "obama_and_biden.jpg").rgb)
    assert len(found) >= 2 and all(face.sure > 0.9 for face in found[:2])
    assert faces(read_image(folder / "skimage" / "coffee.png").rgb) == []
