"""Video relighters by name: those of other people's weights."""

from __future__ import annotations

from typing import Any

from relight.diffusion.pictures.relighters import Painter, RelighterError, create_relighter
from relight.diffusion.public import load
from relight.diffusion.video.feedback import GeometryFeedback
from relight.diffusion.video.light_a_video import FilmRelighter, LightAVideo
from relight.diffusion.video.protocol import VideoRelighter
from relight.plugins import did_you_mean

TRAINED = ("unilumos", "lumen")
"""Models that relight films by themselves."""
KEEPERS: dict[str, dict[str, Any]] = {
    "animatediff": {"gamma": 0.5, "strength": 0.5, "least": 0.15, "size": 512},
    "wan": {"gamma": 0.7, "strength": 0.4, "least": 0.2, "size": 832},
    "cogvideox": {"gamma": 0.7, "strength": 0.4, "least": 0.2, "power": 2.0, "size": 720},
}
"""Video diffusion models that Light-A-Video was shown with, and its options for each."""


def create_video_relighter(
    name: str,
    weights: str | None = None,
    base: str | None = None,
    keeper: str | None = None,
    keeper_weights: str | None = None,
    *,
    gamma: float | None = None,
    feedback: GeometryFeedback | None = None,
) -> VideoRelighter:
    """name: one of `TRAINED`, or a relighter of pictures (`create_relighter`) that `keeper`, of `KEEPERS`, keeps
    consistent.  weights, base, keeper_weights: folders or names of a hub, None for where they are published.
    gamma: None for the keeper's own.  feedback: of `LightAVideo`.
    Raises RelighterError, and DataError for weights that aren't there.
    """
    if name in TRAINED:
        if keeper is not None:
            raise RelighterError(f"model {name!r}: keeps films consistent by itself; leave out {keeper!r}")
        return FilmRelighter(load(name, weights, base=base))
    if keeper not in KEEPERS:
        raise RelighterError(f"video model {keeper!r}: unknown{did_you_mean(keeper or '', KEEPERS)}")
    painter = create_relighter(name, weights, base=base)
    if not isinstance(painter, Painter):
        raise RelighterError(f"model {name!r}: can't be kept consistent; expected one that paints several frames")
    options = {**KEEPERS[keeper], **({} if gamma is None else {"gamma": gamma})}
    if painter.network is None:
        options["gamma"] = 0.0
    return LightAVideo(painter, load(keeper, keeper_weights).denoiser, feedback=feedback, **options)
