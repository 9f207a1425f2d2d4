"""The sample capture: complete, small, and consistent with itself and with what its README says."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from relight import data
from relight.geometry.camera import Camera
from relight.images import read_image

SAMPLE = Path(__file__).resolve().parents[1] / "scenes" / "sample"
TEST = json.loads((SAMPLE / "transforms_test.json").read_text("utf-8"))
IDS: dict[str, int] = TEST["objects"]


@pytest.fixture(scope="module")
def contents():
    """scenes/sample/contents.py: what the capture was rendered from."""
    sys.path.insert(0, str(SAMPLE))
    try:
        import contents

        contents.things = lru_cache(contents.things)  # meshes take seconds
        yield contents
    finally:
        sys.path.remove(str(SAMPLE))


@lru_cache(maxsize=64)
def picture(folder: str, index: int) -> Tensor:
    """(200, 200, C), 0 to 1."""
    return torch.as_tensor(read_image(SAMPLE / folder / f"{index:03d}.png").values)


def ids(index: int) -> Tensor:
    return (picture("test_id", index)[..., 0] * 255).round().int()


def depth(index: int) -> Tensor:
    return picture("test_depth", index)[..., 0] * 65535 * TEST["depth_unit"]


def normals(index: int) -> Tensor:
    return 2 * picture("test_normal", index)[..., :3] - 1


def albedo(index: int) -> Tensor:
    return picture("test_albedo", index)[..., :3]


@pytest.fixture(scope="module")
def cameras() -> list[Camera]:
    """Of the test views, through the reader that users' captures go through."""
    return [view.camera for view in data.load(SAMPLE).views.test]  # type: ignore[union-attr]


def test_it_is_complete_and_small():
    scene = data.load(SAMPLE)
    assert scene.views is not None
    assert (len(scene.views.train), len(scene.views.test)) == (48, 8)
    for folder in ("test", *TEST["relights"], *(f"test_{m}" for m in ("albedo", "roughness", "metallic", "normal"))):
        assert len(list((SAMPLE / folder).glob("*.png"))) == 8, folder
    size = sum(p.stat().st_size for p in SAMPLE.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    assert size <= 8e6


@pytest.mark.parametrize("split", ["train", "test"])
def test_poses_are_rigid_and_look_at_the_scene(split):
    frames = json.loads((SAMPLE / f"transforms_{split}.json").read_text("utf-8"))["frames"]
    poses = np.array([f["transform_matrix"] for f in frames])
    rotation, position = poses[:, :3, :3], poses[:, :3, 3]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-7
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-7)
    assert (position[:, 2] > 0.4).all(), "a camera below the plinth"
    towards = -position / np.linalg.norm(position, axis=1, keepdims=True)
    assert ((-rotation[:, :, 2] * towards).sum(1) > 0.99).all()
    # Views are spread: no two of them closer than four degrees.
    cosine = towards @ towards.T - 2 * np.eye(len(towards))
    assert cosine.max() < np.cos(np.radians(4))


@pytest.mark.parametrize("folder", ["train", "test", *TEST["relights"]])
def test_photos_are_cut_out_and_well_exposed(folder):
    photo = picture(folder, 3)
    assert photo.shape == (200, 200, 4)
    alpha = photo[..., 3]
    assert 0.25 < float((alpha == 1).float().mean()) < 0.8
    assert float((alpha == 0).float().mean()) > 0.15
    inside = photo[..., :3][alpha == 1]
    assert 0.2 < float(inside.mean()) < 0.7
    assert float((inside == 1).any(-1).float().mean()) < 0.06, "too much is clipped"
    assert float(inside.std()) > 0.1


@pytest.mark.parametrize("index", range(8))
def test_maps_agree_with_coverage_and_are_in_range(index):
    alpha, solid = picture("test", index)[..., 3], ids(index) > 0
    assert bool(solid[alpha == 1].all()) and not bool(solid[alpha == 0].any())
    inside = alpha == 1
    roughness, metallic = (
        picture("test_roughness", index)[..., 0][inside],
        picture("test_metallic", index)[..., 0][inside],
    )
    assert 0.09 < float(roughness.min()) < 0.2 and 0.85 < float(roughness.max()) < 0.91
    assert float(((metallic == 0) | (metallic == 1)).float().mean()) > 0.95  # the rest are silhouettes
    assert float((normals(index)[inside].norm(dim=-1) - 1).abs().max()) < 0.02
    for other in TEST["relights"]:
        assert float((picture(other, index)[..., 3] - alpha).abs().max()) < 0.1


@pytest.mark.slow
def test_every_object_has_its_material(contents):
    """Materials without texture, read back from the maps."""
    for number, thing in enumerate(contents.things(), 1):
        assert IDS[thing.name] == number
        seen = [(i, interior(ids(i) == number)) for i in range(8)]
        assert sum(int(m.sum()) for _, m in seen) > 400, f"{thing.name} is hardly visible"
        material = thing.material
        for index, mask in seen:
            if not mask.any():
                continue
            assert mostly(picture("test_metallic", index)[mask], material.metallic)
            if isinstance(material.roughness, float):
                assert mostly(picture("test_roughness", index)[mask], material.roughness)
            if np.ndim(material.base_color) == 1:
                assert mostly(albedo(index)[mask], srgb(material.base_color))


def mostly(found: Tensor, expected: float | np.ndarray) -> bool:
    """Up to rounding to 8 bits; a pixel whose centre sees one object may still be a mixture of two."""
    difference = (found - torch.as_tensor(expected, dtype=torch.float32)).abs()
    return float((difference < 0.003).float().mean()) > 0.99


def srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def interior(mask: Tensor) -> Tensor:
    """Without the pixels at its border, which are mixtures."""
    return torch.nn.functional.max_pool2d(-mask[None].float(), 3, 1, 1)[0] == -1


@pytest.mark.parametrize("index", [0, 3, 7])
def test_depth_and_normals_are_those_of_a_sphere(index, cameras, contents):
    sphere = next(t for t in contents.things() if t.name == "copper sphere")
    center = torch.tensor(sphere.shape.positions.mean(0), dtype=torch.float32)
    mask = interior(ids(index) == IDS["copper sphere"])
    offset = cameras[index].unproject(depth(index))[mask] - center
    assert len(offset) > 50
    assert float((offset.norm(dim=1) - 0.18).abs().max()) < 1e-3
    cosine = (offset / offset.norm(dim=1, keepdim=True) * normals(index)[mask]).sum(1)
    assert float(cosine.min()) > 0.99


def agreement(source: int, target: int, cameras: list[Camera]) -> tuple[float, float]:
    """Of the surface points of one view that fall into another: share on its surface, share in front of it."""
    points = cameras[source].unproject(depth(source))[interior(ids(source) > 0)]
    pixels, z = cameras[target].project(points)
    cell = pixels.floor().long()
    seen = ((cell >= 0) & (cell < 200)).all(1)
    cell, z = cell[seen], z[seen]
    inside = interior(ids(target) > 0)[cell[:, 1], cell[:, 0]]
    found, z = depth(target)[cell[:, 1], cell[:, 0]][inside], z[inside]
    # A point falls beside the pixel's centre, where a surface seen at a grazing angle is at another depth.
    deepest, nearest = (
        sign * torch.nn.functional.max_pool2d(sign * depth(target)[None], 3, 1, 1)[0] for sign in (1, -1)
    )
    near = 0.005 + (deepest - nearest)[cell[:, 1], cell[:, 0]][inside]
    return float(((found - z).abs() < near).float().mean()), float((z < found - near).float().mean())


@pytest.mark.parametrize("pair", [(2, 5), (4, 7), (6, 7), (7, 2), (7, 4), (7, 5)])
def test_depth_maps_reproject_into_each_other(pair, cameras):
    same, in_front = agreement(pair[0], pair[1], cameras)
    assert same > 0.6, "the rest may be hidden, but not most of it"
    assert in_front < 0.02, "nothing may float in front of what the other view sees"


def test_the_reprojection_test_notices_wrong_cameras(cameras):
    from dataclasses import replace

    turned = list(cameras)
    pose = turned[7].world_from_camera.clone()
    pose[:3, 3] += 0.15
    turned[7] = replace(turned[7], world_from_camera=pose)
    same, in_front = agreement(4, 7, turned)
    assert same < 0.6 or in_front > 0.02


def read_light(file: str) -> Tensor:
    return torch.as_tensor(read_image(SAMPLE / file).values)[..., :3]


def test_lights_are_finite_positive_and_as_described(contents):
    files = {TEST["environment"], *TEST["relights"].values()}
    assert files == {f"lights/{name}.exr" for name in contents.LIGHTS}
    for name, light in contents.LIGHTS.items():
        picture = read_light(f"lights/{name}.exr")
        assert picture.shape == (128, 256, 3)
        assert bool(torch.isfinite(picture).all()) and float(picture.min()) > 0
        assert float(picture.max()) > 5, "not HDR"
        expected = torch.tensor(contents.environment(light), dtype=torch.float32)
        assert torch.allclose(picture, expected, rtol=2e-3)


@pytest.mark.parametrize("folder", ["test", *TEST["relights"]])
def test_highlights_lie_where_the_environment_lookup_says(folder, cameras, contents):
    """The copper sphere mirrors: the direction reflected at its brightest pixels must be that of a bright lamp."""
    file = TEST["environment"] if folder == "test" else TEST["relights"][folder]
    light = read_light(file).sum(-1)
    directions = torch.tensor(contents.environment_directions(*light.shape), dtype=torch.float32)
    bright = directions[light > 0.2 * light.max()]
    angles = []
    for index, camera in enumerate(cameras):
        mask = interior(ids(index) == IDS["copper sphere"])
        shine = (picture(folder, index)[..., :3].sum(-1) * mask).flatten()
        best = shine >= shine.max() - 1e-3
        view, normal = camera.ray_directions().reshape(-1, 3)[best], normals(index).reshape(-1, 3)[best]
        mirrored = torch.nn.functional.normalize(view - 2 * (view * normal).sum(1, keepdim=True) * normal, dim=1)
        cosine = (mirrored @ bright.T).max(1).values
        angles.append(float(torch.rad2deg(cosine.clamp(-1, 1).acos()).median()))
    # Where another object hides the lamp from the sphere, or the lamp's mirror image is turned away, it is elsewhere.
    assert np.median(angles) < 5, angles


VOLUMES = {"copper sphere": 4 / 3 * np.pi * 0.18**3, "gold torus": 2 * np.pi**2 * 0.17 * 0.075**2}


@pytest.mark.parametrize("name", [*VOLUMES, "jade bunny", "blue knot", "checker cube", "plinth"])
def test_meshes_are_closed_and_face_outwards(name, contents):
    shape = next(t.shape for t in contents.things() if t.name == name)
    # Seams of the texture have doubled vertices: weld them.
    _, welded = np.unique(np.round(shape.positions, 6), axis=0, return_inverse=True)
    faces = welded.reshape(-1)[shape.faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    one_way, counts = np.unique(edges, axis=0, return_counts=True)
    # Where surfaces touch, marching cubes leaves a few edges to four triangles.
    assert (counts > 1).sum() <= 4
    assert set(map(tuple, one_way)) == set(map(tuple, one_way[:, ::-1])), "an edge without its other side"
    a, b, c = (shape.positions[shape.faces[:, k]] for k in range(3))
    signed = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert signed > 0
    if name in VOLUMES:
        assert signed == pytest.approx(VOLUMES[name], rel=0.01)
    geometric = np.cross(b - a, c - a)
    geometric /= np.linalg.norm(geometric, axis=1, keepdims=True)
    assert ((geometric * shape.normals[shape.faces[:, 0]]).sum(1) > 0.3).mean() > 0.999
    np.testing.assert_allclose(np.linalg.norm(shape.normals, axis=1), 1, atol=1e-6)
