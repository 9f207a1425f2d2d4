"""Views: decoding, undistortion, reduction, caching and the JSON of cameras."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from relight.errors import DataError, RelightError
from relight.export.images import write_exr
from relight.geometry.camera import Camera, Distortion
from relight.shading.color import linear_to_srgb
from relight.views import Photo, View, Views, _Cache

LENSES = {
    "SIMPLE_RADIAL": Distortion("radial-tangential", (-0.2, 0, 0, 0, 0, 0, 0, 0)),
    "RADIAL": Distortion("radial-tangential", (0.15, -0.05, 0, 0, 0, 0, 0, 0)),
    "OPENCV": Distortion("radial-tangential", (-0.15, 0.04, 0.01, -0.008, 0, 0, 0, 0)),
    "FULL_OPENCV": Distortion("radial-tangential", (0.4, 0.1, 0.003, 0.004, 0.02, 0.1, 0.05, 0.01)),
    "OPENCV_FISHEYE": Distortion("fisheye", (0.05, -0.02, 0.004, -0.001)),
    "EQUIDISTANT": Distortion("fisheye", (0.0, 0.0, 0.0, 0.0)),
}


def camera(width: int = 48, height: int = 32, focal: float = 40.0) -> Camera:
    return Camera(torch.eye(4), focal, focal * 1.1, width / 2 + 0.5, height / 2 - 1, width, height)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(path)
    return path


def view(path: Path, **changes) -> View:
    return replace(View(path.name, path, camera()), **changes)


def noise(seed: int = 0, channels: int = 3, size: tuple[int, int] = (48, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels)) / 255


# Decoding


def test_photo_is_the_file(tmp_path: Path) -> None:
    pixels = noise()
    photo = view(save(tmp_path / "a.png", pixels)).photo()
    np.testing.assert_allclose(photo.rgb.numpy(), pixels, atol=1e-6)
    assert photo.alpha is None and photo.mask is None
    assert photo.nbytes == 48 * 32 * 3 * 4
    # sRGB's own two points: 0.5 encoded is 0.214 linear.
    assert float(Photo(torch.full((1, 1, 3), 0.5)).linear()[0, 0, 0]) == pytest.approx(0.2140, abs=1e-4)


def test_colour_is_straight_and_zero_where_transparent(tmp_path: Path) -> None:
    pixels = noise(channels=4)
    pixels[:16, :, 3] = 0
    photo = view(save(tmp_path / "a.png", pixels)).photo()
    assert photo.alpha is not None
    np.testing.assert_allclose(photo.alpha.numpy(), pixels[..., 3], atol=1e-6)
    assert float(photo.rgb[:16].abs().max()) == 0
    opaque = pixels[..., 3] > 0
    np.testing.assert_allclose(photo.rgb.numpy()[opaque], pixels[..., :3][opaque], atol=1e-5)


def test_exr_is_encoded(tmp_path: Path) -> None:
    linear = torch.rand(32, 48, 3, generator=torch.Generator().manual_seed(0)) * 4
    write_exr(tmp_path / "a.exr", {"RGB": linear})
    photo = view(tmp_path / "a.exr").photo()
    torch.testing.assert_close(photo.rgb, linear_to_srgb(linear))
    torch.testing.assert_close(photo.linear(), linear, rtol=1e-4, atol=1e-5)


def test_mask_as_alpha_multiplies_the_files_alpha(tmp_path: Path) -> None:
    pixels, mask = noise(channels=4), noise(1, 1)[..., 0]
    path, mask_path = save(tmp_path / "a.png", pixels), save(tmp_path / "m.png", mask)
    photo = view(path, mask_path=mask_path).photo()
    assert photo.alpha is not None and photo.mask is None
    np.testing.assert_allclose(photo.alpha.numpy(), pixels[..., 3] * mask, atol=1e-6)


def test_mask_as_stencil_tolerates_jpeg(tmp_path: Path) -> None:
    path, mask_path = save(tmp_path / "a.png", noise()), tmp_path / "m.jpg"
    mask = np.full((32, 48), 250, np.uint8)
    mask[:, :16] = 5
    Image.fromarray(mask).save(mask_path, quality=60)
    photo = view(path, mask_path=mask_path, mask_is_alpha=False).photo()
    assert photo.alpha is None and photo.mask is not None and photo.mask.dtype == torch.bool
    assert photo.mask.sum(1).tolist() == [32] * 32 and not bool(photo.mask[:, :16].any())


def test_a_mask_that_allows_everything_is_none(tmp_path: Path) -> None:
    path, mask_path = save(tmp_path / "a.png", noise()), save(tmp_path / "m.png", np.ones((32, 48)))
    assert view(path, mask_path=mask_path, mask_is_alpha=False).photo().mask is None


@pytest.mark.parametrize("which", ["a.png", "m.png"])
def test_file_of_another_size(tmp_path: Path, which: str) -> None:
    for name in ("a.png", "m.png"):
        save(tmp_path / name, noise(size=(30, 20)) if name == which else noise())
    with pytest.raises(DataError, match=rf"{which}: is 30x20, but its camera says 48x32; the file changed"):
        view(tmp_path / "a.png", mask_path=tmp_path / "m.png").photo()


def test_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such picture; check the path"):
        view(tmp_path / "gone.png").photo()


# Reduction


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_camera_keeps_its_field_of_view_at_every_size(width: int, height: int, max_size: int) -> None:
    one = View("a", Path("a.png"), camera(width, height))
    small = one.camera_at(max_size)
    assert max(small.width, small.height) == min(max_size, max(width, height))
    # A ray through the same relative place of both pictures.
    place = torch.tensor([0.3, 0.8])
    rays = [c.local_rays(place * torch.tensor([c.width, c.height])) for c in (one.camera, small)]
    torch.testing.assert_close(rays[0], rays[1])


@pytest.mark.parametrize("max_size", [None, 100, 48, 47, 24, 10, 1])
def test_photo_and_camera_agree(tmp_path: Path, max_size: int | None) -> None:
    views = Views((view(save(tmp_path / "a.png", noise(channels=4))),), max_size)
    for scale in (1.0, 0.5, 0.1):
        photo, small = views.photo(0, scale), views.camera(0, scale)
        assert photo.rgb.shape == (small.height, small.width, 3)
        assert photo.alpha is not None and photo.alpha.shape == (small.height, small.width)


def test_scale_of_a_reduced_set(tmp_path: Path) -> None:
    views = Views((view(save(tmp_path / "a.png", noise())),), 40)
    assert [views.camera(0, s).width for s in (1.0, 0.5, 0.25, 0.01)] == [40, 20, 10, 8]
    assert [replace(views, max_size=None).camera(0, s).width for s in (1.0, 0.5)] == [48, 24]


def test_reduction_averages_areas(tmp_path: Path) -> None:
    pixels = noise()
    photo = view(save(tmp_path / "a.png", pixels)).photo(12)
    np.testing.assert_allclose(photo.rgb.numpy(), pixels.reshape(8, 4, 12, 4, 3).mean((1, 3)), atol=1e-5)


def test_hidden_colour_does_not_leak_when_reduced(tmp_path: Path) -> None:
    pixels = np.zeros((32, 48, 4))
    pixels[..., 0] = 1.0  # the transparent part is red
    pixels[:, ::2] = [0.0, 0.6, 0.0, 1.0]
    photo = view(save(tmp_path / "a.png", pixels)).photo(24)
    assert photo.alpha is not None
    torch.testing.assert_close(photo.rgb, torch.tensor([0.0, 0.6, 0.0]).expand(16, 24, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(photo.alpha, torch.full((16, 24), 0.5))


def test_a_reduced_pixel_is_usable_only_if_all_of_it_is(tmp_path: Path) -> None:
    mask = np.ones((32, 48))
    mask[5, 9] = 0
    path, mask_path = save(tmp_path / "a.png", noise()), save(tmp_path / "m.png", mask)
    usable = view(path, mask_path=mask_path, mask_is_alpha=False).photo(24).mask
    assert usable is not None
    assert (~usable).nonzero().tolist() == [[2, 4]]


# Undistortion


def spots(size: tuple[int, int], centers: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    """A picture with a Gaussian blob at each (x, y) pixel position, pixel centres at +0.5."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    distance = (x[..., None] - centers[:, 0]) ** 2 + (y[..., None] - centers[:, 1]) ** 2
    return np.exp(-distance / (2 * sigma**2)).sum(-1).clip(0, 1)


def seen_by_opencv(points: np.ndarray, c: Camera, lens: Distortion) -> np.ndarray:
    """(N, 2) pixels, corner at 0, of (N, 3) camera-frame points: OpenCV's own projection."""
    k = np.array([[c.fx, 0, c.cx], [0, c.fy, c.cy], [0, 0, 1]])
    points, still, params = points[:, None].astype(np.float64), np.zeros(3), np.array(lens.params)
    if lens.model == "fisheye":
        return cv2.fisheye.projectPoints(points, still, still, k, params)[0][:, 0]
    return cv2.projectPoints(points, still, still, k, params)[0][:, 0]


def centroid(picture: np.ndarray, around: np.ndarray, reach: int = 5) -> np.ndarray:
    x, y = np.meshgrid(np.arange(picture.shape[1]) + 0.5, np.arange(picture.shape[0]) + 0.5)
    near = (np.abs(x - around[0]) < reach) & (np.abs(y - around[1]) < reach)
    weight = picture * near
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("model", LENSES)
def test_undistorted_points_are_where_the_pinhole_camera_sees_them(tmp_path: Path, model: str) -> None:
    """Spots drawn where the lens puts points must come out where `Camera.project` puts them."""
    size = (160, 120)
    pinhole = Camera(torch.eye(4), 110.0, 118.0, 83.0, 57.0, *size)
    grid = torch.cartesian_prod(torch.linspace(20, 140, 5), torch.linspace(20, 100, 4))
    points = pinhole.local_rays(grid) * 2.0
    ideal, _ = pinhole.project(points)
    lens = LENSES[model]
    stored = seen_by_opencv(points.numpy(), pinhole, lens)
    assert np.linalg.norm(stored - ideal.numpy(), axis=1).max() > 3  # or there would be nothing to undo
    picture = np.repeat(spots(size, stored)[..., None], 3, 2)
    photo = View("a", save(tmp_path / "a.png", picture), pinhole, distortion=lens).photo()
    usable = torch.ones(size[::-1], dtype=torch.bool) if photo.mask is None else photo.mask
    missed = []
    for x, y in ideal.numpy():
        if bool(usable[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].all()):
            missed.append(centroid(photo.rgb[..., 0].numpy(), np.array([x, y])) - (x, y))
    assert len(missed) >= 12 and np.abs(missed).max() < 0.15


def test_pixels_outside_the_stored_picture_are_not_usable(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.ones((32, 48, 3)))
    pincushion = Distortion("radial-tangential", (0.3, 0, 0, 0, 0, 0, 0, 0))
    photo = view(path, distortion=pincushion).photo()
    assert photo.mask is not None and photo.alpha is None
    assert not bool(photo.mask[0, 0]) and bool(photo.mask[15, 24])
    # What is usable is white, up to the last row: nothing of the black outside is mixed in.
    torch.testing.assert_close(photo.rgb[photo.mask], torch.ones(int(photo.mask.sum()), 3))


def test_alpha_is_undistorted_with_the_colour(tmp_path: Path) -> None:
    """A cut-out's hidden red must not bleed into its rim when it is resampled."""
    pixels = np.zeros((32, 48, 4))
    pixels[..., 0] = 1.0
    pixels[10:22, 12:36] = [0.0, 0.6, 0.0, 1.0]
    photo = view(save(tmp_path / "a.png", pixels), distortion=LENSES["OPENCV"]).photo()
    assert photo.alpha is not None
    rim = (photo.alpha > 0.02) & (photo.alpha < 0.98)
    assert int(rim.sum()) > 20
    torch.testing.assert_close(
        photo.rgb[rim], torch.tensor([0.0, 0.6, 0.0]).expand(int(rim.sum()), 3), atol=1e-3, rtol=0
    )


def test_a_lens_polynomial_that_turns_back_shows_nothing_twice(tmp_path: Path) -> None:
    """r (1 - 0.5 r^2) rises to r = 0.816 and falls beyond, where this wide picture still goes on."""
    wide = camera(focal=15.0)
    lens = Distortion("radial-tangential", (-0.5, 0, 0, 0, 0, 0, 0, 0))
    photo = view(save(tmp_path / "a.png", noise()), camera=wide, distortion=lens).photo()
    radius = wide.local_rays(wide.pixel_grid())[..., :2].norm(dim=-1)
    assert photo.mask is not None and float(radius.max()) > 1.2
    assert not bool(photo.mask[radius > 0.82].any()) and bool(photo.mask[radius < 0.8].all())


def test_identity_lens_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise())
    nothing = Distortion("radial-tangential", (0.0,) * 8)
    assert nothing.is_identity and not LENSES["EQUIDISTANT"].is_identity
    assert torch.equal(view(path, distortion=nothing).photo().rgb, view(path).photo().rgb)


# Sets of views


def three(folder: Path) -> Views:
    for i in range(3):
        save(folder / f"{i}.png", noise(i))
    return Views(tuple(view(folder / f"{i}.png", split="test" if i == 1 else "train") for i in range(3)))


def test_splits(tmp_path: Path) -> None:
    views = three(tmp_path)
    assert [v.name for v in views.train] == ["0.png", "2.png"] and [v.name for v in views.test] == ["1.png"]
    assert len(views) == 3 and len(views.split("val")) == 0 and views[2].name == "2.png"


def test_names_are_unique() -> None:
    one = View("a.png", Path("a.png"), camera())
    with pytest.raises(DataError, match=r"views have the same name: a\.png; names must be unique"):
        Views((one, replace(one, image_path=Path("b.png")), one))


def test_cache_reads_a_file_once(tmp_path: Path) -> None:
    views = three(tmp_path)
    first = views.photo(0)
    (tmp_path / "0.png").unlink()
    assert views.photo(0) is first and views.train.photo(0) is first
    with pytest.raises(DataError, match=r"0\.png: no such picture"):
        views.photo(0, 0.5)


def test_cache_tells_lenses_masks_and_sizes_apart(tmp_path: Path) -> None:
    views = three(tmp_path)
    plain = views.photo(0).rgb
    mask = save(tmp_path / "m.png", np.zeros((32, 48)))
    for change in (
        {"distortion": LENSES["OPENCV"]},
        {"mask_path": mask},
        {"mask_path": mask, "mask_is_alpha": False},
    ):
        changed = replace(views, views=(replace(views[0], **change),))
        assert changed.photo(0) is not views.photo(0)
        assert torch.equal(views.photo(0).rgb, plain)
    bent = replace(views, views=(replace(views[0], distortion=LENSES["OPENCV"]),))
    wide = replace(views, views=(replace(bent[0], camera=camera(focal=30.0)),))
    assert not torch.equal(bent.photo(0).rgb, wide.photo(0).rgb)
    assert replace(views, max_size=24).photo(0).rgb.shape == (16, 24, 3)


def test_a_moved_camera_shares_the_photo(tmp_path: Path) -> None:
    views = three(tmp_path)
    pose = torch.eye(4)
    pose[0, 3] = 1.0
    moved = replace(views, views=(replace(views[0], camera=replace(views[0].camera, world_from_camera=pose)),))
    assert moved.photo(0) is views.photo(0)


def test_cache_forgets_the_least_recently_used(tmp_path: Path) -> None:
    views = three(tmp_path)
    views = replace(views, _cache=_Cache(limit=2 * 48 * 32 * 3 * 4))
    photos = [views.photo(0), views.photo(1)]
    assert views.photo(0) is photos[0]
    views.photo(2)  # the third: 1 goes, 0 was used since
    assert views.photo(0) is photos[0] and views.photo(1) is not photos[1]
    assert views._cache.size == sum(p.nbytes for p in views._cache.photos.values()) <= views._cache.limit


def test_one_photo_larger_than_the_cache_still_works(tmp_path: Path) -> None:
    views = replace(three(tmp_path), _cache=_Cache(limit=10))
    assert views.photo(0).rgb.shape == views.photo(1).rgb.shape == (32, 48, 3)
    assert len(views._cache.photos) == 1


# JSON


def rich(folder: Path) -> Views:
    (folder / "photos").mkdir()
    (folder / "masks").mkdir()
    views = three(folder / "photos")
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.1, -1e-7, 12345.678])
    changed = replace(
        views[1],
        camera=replace(views[1].camera, world_from_camera=pose, fx=571.1234567890123),
        distortion=LENSES["OPENCV"],
        mask_path=save(folder / "masks" / "1.png", np.ones((32, 48))),
        mask_is_alpha=False,
        light="studio.hdr",
        upright=False,
    )
    return Views((views[0], changed, views[2]), max_size=24)


def test_json_round_trip(tmp_path: Path) -> None:
    views = rich(tmp_path)
    text = json.dumps(views.to_json(), allow_nan=False)
    again = Views.from_json(json.loads(text))
    assert again.max_size == 24
    for read, written in zip(again, views, strict=True):
        assert torch.equal(read.camera.world_from_camera, written.camera.world_from_camera)
        same = replace(read.camera, world_from_camera=written.camera.world_from_camera)
        assert replace(read, camera=same) == replace(written, camera=same)
    assert json.dumps(again.to_json()) == text
    assert torch.equal(again.photo(1).rgb, views.photo(1).rgb)


def test_who_moves_the_pictures_edits_one_line(tmp_path: Path) -> None:
    data = rich(tmp_path).to_json()
    assert data["folder"] == str(tmp_path.resolve())
    for name in ("photos", "masks"):
        (tmp_path / "moved").mkdir(exist_ok=True)
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    again = Views.from_json(data | {"folder": str(tmp_path / "moved")})
    assert again.photo(1).mask is not None and again[1].mask_path == tmp_path / "moved/masks/1.png"


def test_json_of_no_views() -> None:
    assert len(Views.from_json(json.loads(json.dumps(Views(()).to_json())))) == 0


def test_json_says_its_convention(tmp_path: Path) -> None:
    data = rich(tmp_path).to_json()
    assert data["convention"] == "opencv"
    frames = data["frames"]
    assert isinstance(frames, list) and "distortion" not in frames[0] and "light" not in frames[0]


def test_the_cache_is_as_large_as_the_environment_says(monkeypatch) -> None:
    assert _Cache().limit == 2 << 30
    monkeypatch.setenv("RELIGHT_PHOTO_CACHE", "0.5")
    assert _Cache().limit == 1 << 29
    for text in ("-1", "much", "inf", "nan"):
        monkeypatch.setenv("RELIGHT_PHOTO_CACHE", text)
        with pytest.raises(RelightError, match=f"RELIGHT_PHOTO_CACHE={text}: expected GiB"):
            _Cache()


def test_undistorting_in_strips_is_undistorting(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 4), np.uint8)).save(path)
    camera = Camera(torch.eye(4), 40.0, 40.0, 24.5, 15.5, 48, 32)
    view = View("a", path, camera, distortion=Distortion("radial-tangential", (-0.9, 0.1, 0.01, 0, 0, 0, 0, 0)))
    whole = view.photo()
    monkeypatch.setattr("relight.views.STRIP", 5)
    strips = view.photo()
    assert whole.alpha is not None and strips.alpha is not None
    assert torch.equal(whole.rgb, strips.rgb) and torch.equal(whole.alpha, strips.alpha)


def test_opaque_photos_are_what_they_are_by_the_longer_way(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (33, 48, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(np.full((33, 48), 255, np.uint8)).save(tmp_path / "mask.png")
    camera = Camera(torch.eye(4), 40.0, 40.0, 24.0, 16.5, 48, 33)
    short = View("a", tmp_path / "a.png", camera)
    longer = replace(short, mask_path=tmp_path / "mask.png", mask_is_alpha=False)
    for size in (None, 48, 24, 17):
        assert torch.allclose(short.photo(size).rgb, longer.photo(size).rgb, atol=1e-6), size
        assert short.photo(size).mask is None and short.photo(size).alpha is None
