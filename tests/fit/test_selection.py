"""From a click to a thing: the graph's algorithms by their definitions, and prompts on a scene of known things."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from table_scene import BLUE, CENTERS, RED, TABLE, table_scene
from torch.nn.functional import one_hot

from relight.errors import MissingPartError, RelightError
from relight.fit.graph import Graph, connected
from relight.fit.select import Prompt, Selector, find_view
from relight.scene import FeatureBasis
from relight.stages.select import Select
from relight.testing.job import MemoryJob
from relight.views import Views


def test_connected_parts_hold_a_seed():
    chain = Graph(6, torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]), torch.ones(5), torch.ones(5))
    inside, seeds = torch.tensor([1, 1, 0, 1, 1, 1]).bool(), one_hot(torch.tensor(4), 6).bool()
    assert connected(chain, inside, seeds).tolist() == [False, False, False, True, True, True]


@pytest.fixture(scope="module")
def selector() -> Selector:
    return Selector(table_scene()[0])


@pytest.fixture(scope="module")
def of() -> torch.Tensor:
    return table_scene()[1]


def overlap(share: torch.Tensor, truth: torch.Tensor) -> float:
    chosen = share > 0.5
    return float((chosen & truth).sum() / (chosen | truth).sum())


def pixel_of(selector: Selector, thing: int, view: str = "v0.png") -> str:
    camera = next(v.camera for v in selector.views if v.name == view)
    on = CENTERS[thing - 1] if thing else torch.tensor([0.0, -0.6, 0.0])
    x, y = camera.project(on)[0].tolist()
    return f"{view},{x:.1f},{y:.1f}"


@pytest.mark.parametrize("thing", [TABLE, RED, BLUE])
def test_a_click_means_a_thing(selector, of, thing):
    selection = selector.select(Prompt(point=pixel_of(selector, thing)))
    assert overlap(selection.share, of == thing) > 0.93
    assert float(selection.seeds.sum()) == pytest.approx(1, abs=1e-5)
    assert float(selection.share.min()) >= 0 and float(selection.share.max()) <= 1


def test_a_click_anywhere_on_a_thing_means_the_same(selector, of):
    shares = [selector.select(Prompt(like=int(i))).share for i in (of == RED).nonzero()[[9, 100, 300]]]
    assert torch.equal(shares[0], shares[1]) and torch.equal(shares[0], shares[2])


def test_steps_lead_to_larger_things_and_to_parts(selector, of):
    part, thing, larger = (
        selector.select(Prompt(like=int((of == RED).nonzero()[50])), step=step).share > 0.5 for step in (-1, 0, 1)
    )
    assert (part <= thing).all() and (thing <= larger).all()
    assert part.sum() < thing.sum() < larger.sum()


def test_a_box_and_a_gaussian_mean_a_thing(selector, of):
    name, x, y = pixel_of(selector, RED).split(",")
    x, y = float(x), float(y)
    box = selector.select(Prompt(box=f"{name},{x - 9},{y - 9},{x + 9},{y + 9}"))
    assert overlap(box.share, of == RED) > 0.9
    like = selector.select(Prompt(like=int((of == BLUE).nonzero()[50])))
    assert overlap(like.share, of == BLUE) > 0.9


def test_similar_things_count_if_they_may(of):
    scene, _ = table_scene()
    assert scene.gaussians is not None
    # The balls feel alike and the table doesn't.
    feature = torch.where((of == TABLE)[:, None], torch.tensor([1.0, 0.1]), torch.tensor([0.1, 1.0])).half()
    scene = replace(scene, gaussians=replace(scene.gaussians, channels={"feature": feature}))
    selector = Selector(scene)
    prompt = Prompt(point=pixel_of(selector, RED))
    assert overlap(selector.select(prompt, by="similarity").share, of == RED) > 0.99
    assert overlap(selector.select(prompt, by="similarity", whole=True).share, of != TABLE) > 0.99


class Words:
    """A teacher that knows three words and nothing of pictures."""

    name, levels = "words", (3,)

    def __call__(self, rgb):
        return rgb

    def text(self, prompts):
        places = {"table": 0, "red ball": 1, "blue ball": 2}
        return torch.stack(
            [one_hot(torch.tensor(places[p]), 3).float() if p in places else torch.ones(3) for p in prompts]
        )


def test_words_find_what_they_name(of):
    scene, _ = table_scene()
    assert scene.gaussians is not None
    basis = FeatureBasis(torch.zeros(3), torch.eye(3), f"{__name__}:Words")
    gaussians = replace(scene.gaussians, channels={"feature": one_hot(of, 3).half()})
    selector = Selector(replace(scene, gaussians=gaussians, feature_basis=basis))
    for word, thing in (("table", TABLE), ("red ball", RED), ("blue ball", BLUE)):
        assert overlap(selector.select(Prompt(text=word)).share, of == thing) > 0.99
    with pytest.raises(MissingPartError, match="knows text"):
        Selector(table_scene()[0]).select(Prompt(text="table"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point": "v0.png,1"}, "expected view,x,y"),
        ({"point": "v0.png,a,b"}, "expected view,x,y"),
        ({"point": "w0.png,3,3"}, "did you mean 'v0.png'"),
        ({"point": "v0.png,3,99"}, "outside v0.png, which is 64 x 64"),
        ({"point": "v0,1,1"}, "nothing of the splat is there"),
        ({"box": "v0.png,1,1,2"}, "expected view,x0,y0,x1,y1"),
        ({"like": -1}, "expected the number of a Gaussian"),
    ],
)
def test_prompts_that_hit_nothing_are_explained(selector, prompt, message):
    with pytest.raises(RelightError, match=message):
        selector.select(Prompt(**prompt))


@pytest.mark.parametrize("name", ["a/v3.png", "a/v3", "v3.png", "v3"])
def test_folder_and_suffix_of_a_view_may_go(name):
    scene, _ = table_scene()
    assert scene.views is not None
    views = [replace(view, name=f"a/{view.name}") for view in scene.views]
    assert find_view(replace(scene, views=Views(tuple(views))), name) is views[3]


def test_a_prompt_is_one_thing():
    with pytest.raises(ValueError, match="expected one of"):
        Prompt(point="a,1,1", like=3)
    with pytest.raises(ValueError, match="got none"):
        Select()


def test_the_stage_keeps_and_combines_selections(tmp_path, of):
    scene, _ = table_scene()
    one = Select(like=int((of == RED).nonzero()[50])).run(scene, MemoryJob(tmp_path))
    both = Select(like=int((of == BLUE).nonzero()[50]), add="union").run(one, MemoryJob(tmp_path))
    without = Select(like=int((of == RED).nonzero()[9]), add="difference").run(both, MemoryJob(tmp_path))
    for found, truth in ((one, of == RED), (both, of != TABLE), (without, of == BLUE)):
        assert found.gaussians is not None
        assert overlap(found.gaussians.channels["selection"], truth) > 0.9
