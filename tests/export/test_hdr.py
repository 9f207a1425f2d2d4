"""What is written as .hdr comes back, through decoders that are not ours."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.errors import RelightError, ShapeError
from relight.export.hdr import write_hdr
from relight.images import image_size, read_image


def close(found: torch.Tensor, radiance: torch.Tensor) -> bool:
    return bool(((found - radiance).abs() <= radiance.amax(-1, keepdim=True) / 255 + 1e-37).all())


@settings(max_examples=40, deadline=None)
@given(
    width=st.sampled_from([1, 7, 8, 9, 127, 128, 129, 255, 300]),
    height=st.integers(1, 3),
    levels=st.integers(1, 6),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 1000),
)
def test_random_maps_come_back_within_a_step(tmp_path_factory, width, height, levels, exponent, seed):
    g = torch.Generator().manual_seed(seed)
    # Few levels make runs, many make literals.
    palette = torch.rand(levels, 3, generator=g) * 10.0**exponent
    radiance = palette[torch.randint(levels, (height, width), generator=g)]
    path = tmp_path_factory.mktemp("hdr") / "a.hdr"
    write_hdr(path, radiance)
    assert image_size(path) == (width, height)
    picture = read_image(path)
    assert picture.linear and close(picture.rgb, radiance)


@pytest.mark.parametrize("width", [8, 128, 1000])
def test_one_run_and_no_run_at_all(tmp_path, width):
    for radiance in (torch.full((2, width, 3), 0.5), torch.arange(width * 3.0).reshape(1, width, 3) % 97):
        write_hdr(tmp_path / "a.hdr", radiance)
        assert close(read_image(tmp_path / "a.hdr").rgb, radiance)


def test_flat_light_is_smaller_than_raw(tmp_path):
    write_hdr(tmp_path / "a.hdr", torch.full((64, 128, 3), 0.5))
    assert (tmp_path / "a.hdr").stat().st_size < 64 * 128


def test_zero_tiny_huge_and_nearly_a_power_of_two(tmp_path):
    radiance = torch.tensor([0.0, 1e-44, 1e-36, 0.999999, 1.0, 255.9, 1e38])[None, :, None].expand(1, 7, 3)
    write_hdr(tmp_path / "a.hdr", radiance)
    found = read_image(tmp_path / "a.hdr").rgb
    assert close(found, radiance) and float(found[0, 0].abs().max()) == 0


@pytest.mark.parametrize("bad", [-1e-6, float("nan"), float("inf"), 2e38])
def test_what_the_format_has_no_place_for_is_refused(tmp_path, bad):
    with pytest.raises(RelightError, match="holds values from 0"):
        write_hdr(tmp_path / "a.hdr", torch.full((2, 4, 3), bad))
    assert not (tmp_path / "a.hdr").exists()


def test_other_shapes_are_refused(tmp_path):
    with pytest.raises(ShapeError):
        write_hdr(tmp_path / "a.hdr", torch.zeros(4, 4))
