"""A splat format: a table that spreadsheets open, a Gaussian a line."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from relight.atomic import replacing
from relight.errors import DataError
from relight.formats.common import check_finite, checked, logit, parts
from relight.geometry.gaussians import Gaussians
from relight.geometry.sh import from_constant, to_constant

COLUMNS = ("x", "y", "z", "sx", "sy", "sz", "qw", "qx", "qy", "qz", "red", "green", "blue", "opacity")


def sniff(path: Path, head: bytes) -> bool:
    """By the line of names."""
    return head.startswith(",".join(COLUMNS).encode())


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """Raises `DataError` naming the line that is wrong."""
    path = Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        next(lines, None)
        rows = []
        for number, line in enumerate(lines, 2):
            try:
                rows.append([float(value) for value in line])
            except ValueError as error:
                raise DataError(f"{path}:{number}: expected numbers ({error}); export it again") from None
            if len(line) != len(COLUMNS):
                raise DataError(f"{path}:{number}: expected {len(COLUMNS)} values, found {len(line)}; export it again")
    table = torch.tensor(rows).reshape(-1, len(COLUMNS))
    splat = Gaussians(
        means=table[:, 0:3],
        log_scales=table[:, 3:6].log(),
        quats_wxyz=table[:, 6:10],
        sh=from_constant(table[:, None, 10:13]),
        logit_opacity=logit(table[:, 13]),
    )
    return checked(path, splat, drop_invalid)


def write(gaussians: Gaussians, path: str | Path, *, digits: int = 6) -> None:
    """digits: significant ones."""
    check_finite(path, gaussians)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for g in parts(gaussians):
            colour, opacity = to_constant(g.sh[:, 0]), g.opacities[:, None]
            for row in torch.cat([g.means, g.scales, g.quats_wxyz, colour, opacity], 1).tolist():
                lines.writerow([f"{value:.{digits}g}" for value in row])


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute, for `relight info`: here nothing is told apart."""
    return {"text": path.stat().st_size}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    import sys
    from types import MappingProxyType
    from unittest.mock import patch

    from relight import formats

    # What a new module in relight/formats and one line in FORMATS do.
    entry = formats.Format("table", (".csv",), "table", "SH beyond colour", frozenset())
    known = MappingProxyType({**formats.FORMATS, "table": entry})
    sys.modules["relight.formats.table"] = sys.modules[__name__]
    with patch.object(formats, "FORMATS", known):
        quats = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
        sh = from_constant(torch.linspace(0, 1, 15).reshape(5, 1, 3))
        splat = Gaussians(torch.arange(15.0).reshape(5, 3), quats, torch.full((5, 3), -2.0), torch.zeros(5), sh)
        path = tmp_path / "splat.csv"
        formats.write_splat(splat, path, digits=9)
        found = formats.detect(path)
        assert found is not None and found.name == "table"
        again = formats.read_splat(path)
        for name, value in splat.tensors().items():
            torch.testing.assert_close(again.tensors()[name], value)
        path.write_text(path.read_text().replace("13,", "thirteen,"))
        try:
            formats.read_splat(path)
        except DataError as error:
            assert f"{path}:6" in str(error)
        else:
            raise AssertionError("a word was read as a number")
