"""Which Gaussians touch which tiles, front to back.

One radix sort of all Gaussians by depth; then each Gaussian, in that order, is appended to the lists of the tiles it
touches (a counting sort).  Lists come out sorted by depth, ties by index, whatever the number of workers.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relight.render.kernels.composite import TILE

_0 = np.float32(0.0)
_HALF = np.float32(0.5)
_1 = np.float32(1.0)
_TILE = np.float32(TILE)


@njit(cache=True)
def depth_order(keys):
    """(N,) uint32 to (N,) int32: stable argsort, least significant byte first.

    Positive floats sort like their bits, so the caller passes depths viewed as uint32.
    """
    n = keys.size
    counts = np.zeros((4, 256), np.int64)
    for i in range(n):
        k = keys[i]
        counts[0, k & 255] += 1
        counts[1, (k >> 8) & 255] += 1
        counts[2, (k >> 16) & 255] += 1
        counts[3, k >> 24] += 1
    source = np.arange(n).astype(np.int32)
    target = np.empty(n, np.int32)
    for byte in range(4):
        if counts[byte].max() == n:
            continue
        start = 0
        for value in range(256):
            start, counts[byte, value] = start + counts[byte, value], start
        for i in range(n):
            value = (keys[source[i]] >> (8 * byte)) & 255
            target[counts[byte, value]] = source[i]
            counts[byte, value] += 1
        source, target = target, source
    return source


@njit(forceinline=True)
def _tile_span(low, high, tiles):
    """First and one-past-last tile whose pixel centres lie in [low, high] (pixels)."""
    first = np.floor((low - _HALF) / _TILE)
    last = np.floor((high - _HALF) / _TILE)
    a = 0 if first < _0 else (tiles if first >= np.float32(tiles) else int(first))
    b = -1 if last < _0 else (tiles - 1 if last >= np.float32(tiles - 1) else int(last))
    return a, b + 1


@njit(forceinline=True)
def _columns(record, surfel, row, tiles_x):
    """Tiles of one tile row that the Gaussian touches, as a half-open range.

    For an ellipsoid: the exact horizontal extent of its ellipse within the row's pixel centres.
    """
    if surfel:
        return _tile_span(record[0] - record[11], record[0] + record[11], tiles_x)
    half_width = record[11]
    # In units of the half box, the ellipse is x = r y +- s sqrt(1 - y^2), rightmost (x = 1) at y = r.
    r = record[7]
    top = (np.float32(row * TILE) + _HALF - record[1]) / record[3]
    bottom = top + (_TILE - _1) / record[3]
    top = max(top, -_1)
    bottom = min(bottom, _1)
    right = half_width
    if r < top or r > bottom:
        y = top if r < top else bottom
        right *= r * y + record[8] * np.sqrt(max(_1 - y * y, _0))
    left = -half_width
    if -r < top or -r > bottom:
        y = top if -r < top else bottom
        left *= -(r * y - record[8] * np.sqrt(max(_1 - y * y, _0)))
    # Half a per mille of slack for rounding: a tile too many costs little, a missing one is an error.
    slack = np.float32(5e-4) * half_width + np.float32(1e-3)
    return _tile_span(record[0] + left - slack, record[0] + right + slack, tiles_x)


@njit(cache=True)
def list_starts(counts):
    """(lists + 1,) int64: where each list begins among all entries, and where the last one ends.

    counts: (workers, lists) int64, how many entries a worker has for a list; becomes where its own begin.
    """
    starts = np.zeros(counts.shape[1] + 1, np.int64)
    at = 0
    for entry in range(counts.shape[1]):
        for worker in range(counts.shape[0]):
            at, counts[worker, entry] = at + counts[worker, entry], at
        starts[entry + 1] = at
    return starts


@njit(parallel=True, cache=True)
def bin_tiles(records, surfel, order, tiles_x, tiles_y, workers):
    """Lists of hits.

    records: (N, RECORD).  order: (N,) front to back.
    Returns hits (H,) int32 Gaussian of each hit, slots (H,) int64 its row among all hits counted Gaussian by Gaussian,
    tile_start (tiles + 1,), slot_start (N + 1,): rows of Gaussian order[i] are slot_start[i] .. slot_start[i + 1].
    """
    n = order.size
    tiles = tiles_x * tiles_y
    counts = np.zeros((workers, tiles), np.int64)
    slot_start = np.zeros(n + 1, np.int64)
    for worker in prange(workers):
        for i in range(n * worker // workers, n * (worker + 1) // workers):
            g = order[i]
            record = records[g]
            if record[11] <= _0:
                continue
            row0, row1 = _tile_span(record[1] - record[3], record[1] + record[3], tiles_y)
            for row in range(row0, row1):
                first, last = _columns(record, surfel, row, tiles_x)
                for column in range(first, last):
                    counts[worker, row * tiles_x + column] += 1
                slot_start[i + 1] += max(last - first, 0)
    for i in range(n):
        slot_start[i + 1] += slot_start[i]
    tile_start = list_starts(counts)
    hits = np.empty(tile_start[-1], np.int32)
    slots = np.empty(tile_start[-1], np.int64)
    for worker in prange(workers):
        for i in range(n * worker // workers, n * (worker + 1) // workers):
            g = order[i]
            record = records[g]
            if record[11] <= _0:
                continue
            slot = slot_start[i]
            row0, row1 = _tile_span(record[1] - record[3], record[1] + record[3], tiles_y)
            for row in range(row0, row1):
                first, last = _columns(record, surfel, row, tiles_x)
                for column in range(first, last):
                    place = counts[worker, row * tiles_x + column]
                    counts[worker, row * tiles_x + column] = place + 1
                    hits[place] = g
                    slots[place] = slot
                    slot += 1
    return hits, slots, tile_start, slot_start
