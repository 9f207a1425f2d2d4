"""Cameras from plain photos: incremental structure from motion with COLMAP (Schoenberger and Frahm, CVPR 2016).

Written against pycolmap's documented interface, 3.10 to 4.0, and tried with 4.2.  Most tests run a stand-in, a slow
one the library itself where it is installed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relight.data.common import pictures_in
from relight.errors import BackendUnavailableError, DataError, RelightError

if TYPE_CHECKING:
    from types import ModuleType


def solve(photos: str | Path) -> Path:
    """Solve the cameras of a folder of photos, or of its `images` folder, and write them to sparse/0 beside them.

    Returns sparse/0, which `relight.data.load(photos)` finds.  Features are matched between all pairs, so time grows
    with the square of the number of photos.  sparse/0 appears only when it is complete; nothing else is left behind.

    Raises BackendUnavailableError without pycolmap, RelightError if there is a model already, and DataError if there
    are too few photos or COLMAP cannot place them.
    """
    root = Path(photos)
    folder = root / "images" if pictures_in(root / "images") else root
    count = len(pictures_in(folder))
    if count < 2:
        raise DataError(
            f"{root}: {count} photo(s) here and in {root / 'images'}; structure from motion needs at least 2"
        )
    target = root / "sparse" / "0"
    if target.exists():
        raise RelightError(f"{target}: there is a model already; load it, or move it away to solve the cameras again")
    pycolmap = _pycolmap()
    try:
        # On the same file system as the target, so that the model is moved in one step.
        with tempfile.TemporaryDirectory(prefix=".sfm-", dir=root) as work:
            model = _largest(pycolmap, folder, Path(work))
            placed = model.num_reg_images() if model is not None else 0
            if model is None or placed < 2:
                raise DataError(
                    f"{folder}: COLMAP could place {placed} of {count} photos; take more that overlap by two thirds, "
                    "are sharp, and move the camera sideways rather than turning it on the spot"
                )
            result = Path(work) / "result"
            result.mkdir()
            model.write(str(result))
            target.parent.mkdir(exist_ok=True)
            os.rename(result, target)
    except OSError as error:
        raise RelightError(f"{target}: cannot be written ({error.strerror or error}); make room or access") from error
    return target


def _pycolmap() -> ModuleType:
    try:
        import pycolmap
    except ImportError as error:
        raise BackendUnavailableError(
            f"solving cameras needs pycolmap, which cannot be imported ({error}); install it with "
            "`pip install 'relight[sfm]'`, or solve the cameras with COLMAP and put its model in sparse/0"
        ) from error
    return pycolmap


def _largest(pycolmap: ModuleType, folder: Path, work: Path) -> Any:
    """The reconstruction with most photos, or None.  COLMAP's defaults: only they are the same in all its versions."""
    database, models = work / "database.db", work / "models"
    models.mkdir()
    try:
        pycolmap.extract_features(database_path=str(database), image_path=str(folder))
        pycolmap.match_exhaustive(database_path=str(database))
        found = pycolmap.incremental_mapping(
            database_path=str(database), image_path=str(folder), output_path=str(models)
        )
    except OSError:
        raise
    except Exception as error:  # its C++ side raises RuntimeError, ValueError and others
        raise DataError(f"{folder}: COLMAP failed ({error}); see its messages above") from error
    return max(found.values(), key=lambda model: model.num_reg_images(), default=None)
