"""Pictures and films: what is read back is what was meant, and failures leave nothing behind."""

import numpy as np
import pytest
import torch
from PIL import Image

from relight.atomic import replacing
from relight.errors import RelightError
from relight.export import images


def picture(height=13, width=17, channels=3) -> torch.Tensor:
    return torch.rand(height, width, channels, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize("channels", [3, 4])
def test_png_is_exact_to_rounding(tmp_path, channels):
    image = picture(channels=channels)
    images.write_image(tmp_path / "a" / "b.png", image)
    back = np.asarray(Image.open(tmp_path / "a" / "b.png")) / 255
    assert np.abs(back - image.numpy()).max() <= 0.5 / 255 + 1e-6
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.png"]


def test_values_out_of_range_saturate():
    odd = torch.tensor([[-1.0, 2.0, torch.nan], [torch.inf, -torch.inf, 0.5]])
    assert images.to_bytes(odd).tolist() == [[0, 255, 0], [255, 0, 128]]


def test_exr_holds_premultiplied_linear_light(tmp_path):
    import OpenEXR

    image = picture(channels=4)
    images.write_image(tmp_path / "a.exr", image)
    with OpenEXR.File(str(tmp_path / "a.exr")) as file:
        rgba = file.channels()["RGBA"].pixels
    assert rgba.dtype == np.float32
    np.testing.assert_array_equal(rgba[..., 3], image[..., 3].numpy())
    linear = np.power((image[..., :3].numpy() + 0.055) / 1.055, 2.4)
    bright = image[..., :3].numpy() > 0.05
    np.testing.assert_allclose((rgba[..., :3] / rgba[..., 3:])[bright], linear[bright], rtol=1e-4)


def test_exr_of_depth_and_normals(tmp_path):
    import OpenEXR

    depth, normal = picture()[..., 0] * 1e6, picture() - 0.5
    images.write_exr(tmp_path / "a.exr", {"Z": depth, "N": normal})
    with OpenEXR.File(str(tmp_path / "a.exr")) as file:
        channels = {k: v.pixels for k, v in file.channels().items()}
    np.testing.assert_array_equal(channels["Z"], depth.numpy())
    np.testing.assert_array_equal(channels["N.Y"], normal[..., 1].numpy())


def test_straight_undoes_premultiplication():
    color, alpha = picture(), picture(channels=1)[..., 0]
    alpha[0] = 0
    rgba = images.straight(color * alpha[..., None], alpha)
    torch.testing.assert_close(rgba[1:, :, :3], color[1:], rtol=1e-4, atol=1e-5)
    assert bool((rgba[0] == 0).all())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio leaves ffmpeg's pipes open
def test_film_plays_with_the_colours_it_was_given(tmp_path):
    import imageio.v3 as iio

    colors = torch.tensor([[0.8, 0.3, 0.1], [0.1, 0.6, 0.9], [0.5, 0.5, 0.5]])
    frames = (c.expand(33, 49, 3) for c in colors for _ in range(4))
    assert images.write_film(tmp_path / "a.mp4", frames, fps=12) == 12
    film = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert film.shape == (12, 32, 48, 3)
    for i, color in enumerate(colors):
        np.testing.assert_allclose(film[4 * i + 1, 8:-8, 8:-8].mean((0, 1)), 255 * color.numpy(), atol=3)
    assert iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["pix_fmt"].startswith("yuv420p")


def failing_frames():
    yield picture()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([], RelightError),
        ([torch.zeros(1, 9, 3)], RelightError),
        ([torch.zeros(8, 8, 3), torch.zeros(8, 10, 3)], RelightError),
        (failing_frames(), KeyboardInterrupt),
    ],
)
def test_failed_films_leave_nothing(tmp_path, frames, error):
    (tmp_path / "a.mp4").write_text("earlier")
    with pytest.raises(error):
        images.write_film(tmp_path / "a.mp4", frames)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "earlier"


def test_a_failing_encoder_is_explained(tmp_path):
    with pytest.raises(RelightError, match="encoder"):  # x264 knows no such rate factor
        images.write_film(tmp_path / "a.mp4", [torch.zeros(16, 16, 3)] * 400, quality=-7000)
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffix(tmp_path):
    with pytest.raises(RelightError, match=r"expected \.png"):
        images.write_image(tmp_path / "a.bmp", picture())


def test_replacing_is_atomic(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("one")
        assert not target.exists() and temporary.suffix == ".txt"
    with pytest.raises(RelightError, match="cannot be written"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert target.read_text() == "one"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]
