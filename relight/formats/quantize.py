"""Numbers in few bits, the same way in several formats: rotations, directions, materials, shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from relight.geometry.gaussians import CHANNELS

CODED = {"base_color": 3, "roughness": 1, "metallic": 1, "normal": 2, "progress": 1}
"""Bytes that `pack_materials` takes for a channel."""


def unorm(values: np.ndarray, bits: int) -> np.ndarray:
    """Values from 0 to 1, clamped, to the nearest of the integers 0 to 2^bits - 1; uint32."""
    most = (1 << bits) - 1
    return np.rint(np.clip(values, 0, 1) * most).astype(np.uint32)


def to_byte(values: np.ndarray) -> np.ndarray:
    """To the nearest integer from 0 to 255, uint8."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) unit quaternions to (N,) index of the largest component and (N, 3) others in order, |.| <= 1 / sqrt 2.

    Signs are chosen so that the component left out is positive.
    """
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    quats = quats * np.where(quats[rows, largest] < 0, -1, 1)[:, None].astype(quats.dtype)
    return largest, np.take_along_axis(quats, _OTHERS[largest], 1)


def from_smallest_three(largest: np.ndarray, three: np.ndarray) -> np.ndarray:
    """Inverse of `smallest_three`: (N, 4) float32 unit quaternions in the same component order."""
    quats = np.empty((len(three), 4), np.float32)
    np.put_along_axis(quats, _OTHERS[largest], three.astype(np.float32), 1)
    rest = np.sqrt(np.clip(1 - (three.astype(np.float32) ** 2).sum(1), 0, None))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), rest[:, None], 1)
    return quats


_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def octahedral(directions: np.ndarray) -> np.ndarray:
    """(N, 3) unit directions to (N, 2) in -1 to 1 (Cigolle et al., JCGT 2014)."""
    p = directions[:, :2] / np.abs(directions).sum(1, keepdims=True).clip(1e-12)
    folded = (1 - np.abs(p[:, ::-1])) * np.where(p >= 0, 1, -1)
    return np.where(directions[:, 2:] < 0, folded, p)


def from_octahedral(points: np.ndarray) -> np.ndarray:
    """Inverse of `octahedral`: (N, 3) unit."""
    z = 1 - np.abs(points).sum(1, keepdims=True)
    folded = (1 - np.abs(points[:, ::-1])) * np.where(points >= 0, 1, -1)
    d = np.concatenate([np.where(z < 0, folded, points), z], 1)
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def pack_materials(channels: Mapping[str, Tensor], names: Sequence[str]) -> np.ndarray:
    """Channels of `CHANNELS` to (N, sum of `CODED`) uint8.

    Base colour as its square root, which spends bytes as the eye does; normals octahedral; shares as they are.
    """
    columns = []
    for name in names:
        value = channels[name].detach().cpu().numpy()
        if name == "normal":
            columns.append(octahedral(value) * 0.5 + 0.5)
        else:
            value = value.reshape(len(value), -1)
            columns.append(np.sqrt(value.clip(0)) if name == "base_color" else value)
    return to_byte(np.concatenate(columns, 1) * 255)


def unpack_materials(packed: np.ndarray, names: Sequence[str]) -> dict[str, Tensor]:
    """Inverse of `pack_materials`."""
    out, start = {}, 0
    for name in names:
        value = packed[:, start : start + CODED[name]].astype(np.float32) / 255
        start += CODED[name]
        if name == "normal":
            value = from_octahedral(value * 2 - 1)
        elif name == "base_color":
            value = value * value
        value = torch.from_numpy(value.astype(np.float32))
        out[name] = value if CHANNELS[name][0] else value.squeeze(1)
    return out
