"""Real captures made by others: counts, sizes, splits, and geometry checked against the pictures themselves."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from capture_files import write_picture

from relight.data import detect, load
from relight.data.initialise import initial_points
from relight.errors import DataError
from relight.scene import Scene
from relight.views import Views


def views_of(scene: Scene) -> Views:
    assert scene.views is not None
    return scene.views


def described(views: Views) -> tuple[int, int, set[tuple[int, int]]]:
    """Views, test views and picture sizes."""
    return len(views), len(views.test), {(v.camera.width, v.camera.height) for v in views}


def epipolar_error(views: Views, first: int, second: int) -> float:
    """Median distance in pixels from the epipolar lines of SIFT matches: the cameras against the pictures."""
    found = []
    for index in (first, second):
        photo = views.photo(index)
        grey = (photo.rgb.mean(-1) * 255).to(torch.uint8).numpy()
        keys, features = cv2.SIFT.create(nfeatures=800).detectAndCompute(grey, None)
        found.append((np.array([k.pt for k in keys]) + 0.5, features))  # OpenCV's pixel centres are whole numbers
    matches = cv2.BFMatcher(crossCheck=True).match(found[0][1], found[1][1])
    matches = sorted(matches, key=lambda m: m.distance)[: max(40, len(matches) // 4)]
    a = found[0][0][[m.queryIdx for m in matches]]
    b = found[1][0][[m.trainIdx for m in matches]]
    one, two = views.camera(first), views.camera(second)
    relative = (two.camera_from_world.double() @ one.world_from_camera.double()).numpy()
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]

    def inverse_intrinsics(camera) -> np.ndarray:
        return np.linalg.inv([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])

    fundamental = inverse_intrinsics(two).T @ essential @ inverse_intrinsics(one)
    lines = np.c_[a, np.ones(len(a))] @ fundamental.T
    distance = np.abs((lines * np.c_[b, np.ones(len(b))]).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
    return float(np.median(distance))


def inside(views: Views, index: int, points: torch.Tensor) -> torch.Tensor:
    camera = views.camera(index)
    pixels, depth = camera.project(points)
    return (depth > 0) & (pixels >= 0).all(-1) & (pixels < torch.tensor([camera.width, camera.height])).all(-1)


def test_fox(data_dir: Path) -> None:
    scene = load(data_dir / "multiview/ngp_fox")
    views = views_of(scene)
    assert described(views) == (50, 7, {(450, 800)})
    assert views[0].camera.fy == pytest.approx(572.704, abs=1e-3) and views[0].distortion is not None
    assert scene.frame.up is not None and scene.frame.up[2] > 0.99
    assert all(bool(inside(views, i, torch.tensor([scene.frame.center]))) for i in range(50))
    assert epipolar_error(views, 2, 6) < 0.6


def test_cape_with_masks(data_dir: Path) -> None:
    folder = data_dir / "multiview/nerd_gold_cape"
    scene = load(folder, max_size=400)
    views = views_of(scene)
    assert detect(folder) == "transforms" and described(views) == (60, 8, {(800, 800)})
    assert all(v.mask_path is not None for v in views)
    for i in (0, 17, 41):
        photo = views.photo(i)
        assert photo.alpha is not None and photo.rgb.shape == (400, 400, 3)
        assert 0.2 < float(photo.alpha.mean()) < 0.8
    same = views_of(load(folder, masks="masks", max_size=400))
    assert torch.equal(same.photo(3).rgb, views.photo(3).rgb)
    assert epipolar_error(views, 0, 48) < 0.3


def test_cape_is_the_same_through_both_of_its_formats(data_dir: Path) -> None:
    folder = data_dir / "multiview/nerd_gold_cape"
    one, other = views_of(load(folder)), views_of(load(folder, format="llff"))
    assert len(one) == len(other) == 60
    for a, b in zip(one, other, strict=True):
        assert Path(a.name).name == b.name
        torch.testing.assert_close(a.camera.world_from_camera, b.camera.world_from_camera, atol=2e-5, rtol=0)
        assert (a.camera.fx, a.camera.cx) == pytest.approx((b.camera.fx, b.camera.cx), rel=1e-4)


def test_fountain_against_its_laser_measured_cameras(data_dir: Path) -> None:
    folder = data_dir / "multiview/strecha_fountain_p11"
    views = views_of(load(folder))
    assert described(views) == (11, 2, {(800, 533)})
    for view in views:
        lines = (folder / "gt_dense_cameras" / f"{Path(view.name).name}.camera").read_text().split("\n")
        numbers = np.array([float(w) for line in lines for w in line.split()])
        rotation, center = numbers[12:21].reshape(3, 3), numbers[21:24]
        pose = view.camera.world_from_camera.numpy()
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=2e-5)
        np.testing.assert_allclose(pose[:3, 3], center, atol=2e-5)
        assert view.camera.fx == pytest.approx(2759.48 * 800 / 3072, rel=1e-3)
    assert epipolar_error(views, 4, 5) < 0.3


def test_berlin(data_dir: Path) -> None:
    folder = data_dir / "multiview/opensfm_berlin"
    views = views_of(load(folder))
    assert described(views) == (3, 1, {(800, 600)}) and views[0].distortion is not None
    points = torch.tensor([p["xyz"] for p in json.loads((folder / "points.json").read_text())])
    seen = torch.stack([inside(views, i, points) for i in range(3)])
    assert float((seen.sum(0) >= 2).float().mean()) > 0.95
    assert epipolar_error(views, 0, 1) < 0.8


def tracks(folder: Path) -> dict[str, list[tuple[float, float, int]]]:
    """Of a binary model's pictures: x and y of each observation, and its point's row in points3D.bin."""
    data, at, rows = (folder / "points3D.bin").read_bytes(), 8, {}
    for row in range(struct.unpack_from("<Q", data)[0]):
        number, length = struct.unpack_from("<Q35xQ", data, at)
        rows[number] = row
        at += 51 + 8 * length
    data, at, found = (folder / "images.bin").read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", data)[0]):
        end = data.index(b"\0", at + 64)
        (count,) = struct.unpack_from("<Q", data, end + 1)
        seen = [struct.unpack_from("<ddq", data, end + 9 + 24 * i) for i in range(count)]
        found[data[at + 64 : end].decode()] = [(x, y, rows[number]) for x, y, number in seen if number in rows]
        at = end + 9 + 24 * count
    return found


def test_vesta_binary_model(data_dir: Path) -> None:
    folder = data_dir / "multiview/gtsfm_vesta_colmap_bin"
    scene = load(folder)
    views = views_of(scene)
    assert detect(folder) == "colmap" and described(views) == (4, 1, {(1024, 1024)})
    assert scene.points is not None and scene.points.positions.shape == (1465, 3)
    for name, track in tracks(folder).items():
        index = next(i for i, v in enumerate(views) if v.name == name)
        observed, rows = torch.tensor(track)[:, :2], [row for _, _, row in track]
        pixels, depth = views.camera(index).project(scene.points.positions[rows])
        assert len(track) > 1000 and bool((depth > 0).all())
        assert float((pixels - observed).norm(dim=1).median()) < 0.01  # the model was triangulated from its own mesh
        brightness = views.photo(index).rgb[..., 0][pixels[:, 1].long(), pixels[:, 0].long()]
        assert float((brightness > 0.05).float().mean()) > 0.9  # on the asteroid, not on space
    sampled = initial_points(scene, 1000, torch.Generator().manual_seed(0))
    assert sampled.positions.shape == (1000, 3)


def test_crane_mast_text_model(data_dir: Path, tmp_path: Path) -> None:
    """The capture came without photos.  Blank ones of an eighth of the size stand in; the model has its own tracks."""
    folder = data_dir / "multiview/gtsfm_crane_mast_colmap_txt"
    with pytest.raises(DataError, match=r"crane_mast_colmap_txt: 0 picture\(s\).*8 are missing, such as .*add photos"):
        load(folder)
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        shutil.copy(folder / name, tmp_path / name)
    for i in range(1, 9):
        write_picture(tmp_path / f"crane_mast_{i}.jpg", (507, 380))
    scene = load(tmp_path)
    views = views_of(scene)
    assert described(views) == (8, 1, {(507, 380)})
    assert scene.points is not None
    lines = [line.split() for line in (folder / "points3D.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(scene.points.positions) == len(lines)
    row_of = {words[0]: i for i, words in enumerate(lines)}
    pairs = [line.split() for line in (folder / "images.txt").read_text().splitlines() if not line.startswith("#")]
    for head, track in zip(pairs[::2], pairs[1::2], strict=True):
        seen = [(float(x), float(y), row_of[p]) for x, y, p in zip(*[iter(track)] * 3, strict=True) if p in row_of]
        index = next(i for i, v in enumerate(views) if v.name == head[9])
        view = views[index]
        assert view.distortion is not None
        pixels, depth = view.camera.project(scene.points.positions[[i for _, _, i in seen]])
        focal = torch.tensor([view.camera.fx, view.camera.fy])
        center = torch.tensor([view.camera.cx, view.camera.cy])
        predicted = view.distortion.apply((pixels - center) / focal) * focal + center
        observed = torch.tensor([(x, y) for x, y, _ in seen]) / 8
        assert len(seen) > 50 and bool((depth > 0).all())
        assert (
            float((predicted - observed).norm(dim=1).median()) < 0.25
        )  # two pixels of the real photo; the model says 1.1


def test_dino(data_dir: Path) -> None:
    folder = data_dir / "multiview/middlebury_dino_sparse_ring"
    views = views_of(load(folder))
    assert described(views) == (16, 2, {(640, 480)})
    low, high = torch.tensor(json.loads((folder / "transforms.json").read_text())["aabb"])
    corners = torch.stack([torch.where(torch.tensor(b) > 0, low, high) for b in np.ndindex(2, 2, 2)]).float()
    for i in range(0, 16, 3):
        pixels, depth = views.camera(i).project(corners)
        assert bool((depth > 0).all())
        y, x = (views.photo(i).rgb.mean(-1) > 0.3).nonzero().unbind(-1)
        # The lit dinosaur fills its box and does not leave it.
        for values, bound, size in ((x, pixels[:, 0], 640), (y, pixels[:, 1], 480)):
            left, right = np.percentile(values.numpy(), [0.5, 99.5])
            assert max(0, float(bound.min())) - 3 < left < right < min(size, float(bound.max())) + 3
            assert right - left > 0.5 * (min(size, float(bound.max())) - max(0, float(bound.min())))


def test_spot(data_dir: Path) -> None:
    folder = data_dir / "relightable/spot"
    scene = load(folder)
    views = views_of(scene)
    assert described(views) == (96, 16, {(256, 256)})
    assert {v.light for v in views} == {"kloppenheim_05_512.hdr"} and all(v.distortion is None for v in views)
    assert scene.frame.center == pytest.approx((0, 0, 0), abs=1e-4)
    # Cameras at 3.4 from the origin, not quite centred on it.
    assert 1.1 * 3.4 < scene.frame.radius < 1.1 * 4.2
    assert all(float(v.camera.position.norm()) == pytest.approx(3.4, abs=1e-3) for v in views)
    hull = torch.zeros(4000)
    cloud = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for i in range(0, 96, 12):
        photo, camera = views.photo(i), views.camera(i)
        assert photo.alpha is not None
        # The object lies in the unit sphere, whose outline is at most this far from the middle.
        y, x = (photo.alpha > 0.5).nonzero().unbind(-1)
        reach = float(((x + 0.5 - camera.cx) ** 2 + (y + 0.5 - camera.cy) ** 2).max().sqrt())
        assert camera.fx * 0.15 < reach < camera.fx / (3.4**2 - 1) ** 0.5 + 1
        pixels, _ = camera.project(cloud)
        hull += photo.alpha[pixels[:, 1].long().clamp(0, 255), pixels[:, 0].long().clamp(0, 255)] > 0.5
    # Silhouettes from all sides agree on a solid: wrong axes would leave next to nothing.
    assert 0.02 < float((hull == 8).float().mean()) < 0.3
