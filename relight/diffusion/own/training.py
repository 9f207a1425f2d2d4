"""Learning: steps, averaged weights, checkpoints, what the folder of a training tells.  The command is `own.train`."""

from __future__ import annotations

import json
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from relight.atomic import replacing
from relight.diffusion.own.batches import Batch
from relight.diffusion.own.flow import flow_loss, step_loss
from relight.diffusion.own.imdn import Imdn
from relight.diffusion.own.network import Network
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import TASKS
from relight.diffusion.pictures.upscale import UPSCALERS, Upscaler, charbonnier
from relight.diffusion.protocol import Condition

STEPPED = 1 / 8
"""Share of a batch that teaches long steps."""
AHEAD = 4
"""Batches drawn before they are needed."""
SHOWN = 8
"""Pictures in samples.png."""
REPORT = 10.0
"""Seconds between lines of training.jsonl."""


@dataclass(frozen=True)
class Plan:
    """pictures, minutes: where training ends, whichever comes first.  batch: pictures a step.  rate: AdamW's, from a
    short warm-up down a cosine to a thirtieth.  reuse: times that each drawn batch is used, with other noise.
    checkpoint: seconds between two.  least: time that pictures are noised to at least; above 0, no long
    steps are taught.
    """

    pictures: float = math.inf
    minutes: float = math.inf
    batch: int = 32
    rate: float = 5e-4
    reuse: int = 1
    seed: int = 0
    checkpoint: float = 300.0
    least: float = 0.0


class Training:
    """What changes while a prior is trained, and how it is kept."""

    file = "prior.safetensors"

    def __init__(self, network: nn.Module, plan: Plan, folder: Path, device: torch.device):
        self.network: Any = network.to(device).train()
        self.plan, self.folder, self.device = plan, folder, device
        self.average: Any = deepcopy(network).eval().requires_grad_(False)
        words = [p for n, p in network.named_parameters() if n == "vocabulary"]
        rest = [p for n, p in network.named_parameters() if n != "vocabulary"]
        # A word is in few of the pictures of a batch.
        groups = [{"params": words, "times": 20.0}, {"params": rest, "times": 1.0}]
        self.optimiser = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=plan.rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.step, self.pictures, self.seconds = 0, 0, 0.0
        self.example: Any = None
        """A batch that `samples.png` shows what is made of."""

    @property
    def done(self) -> float:
        """0 to 1."""
        return min(1.0, max(self.pictures / self.plan.pictures, self.seconds / 60 / self.plan.minutes))

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step.  The loss of each kind."""
        begun = time.perf_counter()
        losses = self.losses(batch, Generator().manual_seed(self.plan.seed * 7919 + self.step))
        network = self.network
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([weight * loss for weight, loss in losses.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        warm = min(1.0, (self.step + 1) / 200)
        cosine = 1 / 30 + (1 - 1 / 30) * 0.5 * (1 + math.cos(math.pi * self.done))
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * warm * cosine * group["times"]
        self.optimiser.step()
        with torch.no_grad():
            # A window that grows with what has been done forgets the beginning (Karras et al. 2024).
            share = max(1 / (1 + 0.05 * self.step), 1e-4)
            for mean, value in zip(self.average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, share)
        self.step += 1
        self.pictures += self.plan.batch
        self.seconds += time.perf_counter() - begun
        return {name: float(loss.detach()) for name, (_, loss) in losses.items()}

    def losses(self, batch: Any, generator: Generator) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each, by name."""
        network, tokens = self.network, self.network.tokens(batch.words)
        long = max(1, round(STEPPED * len(batch.picture)))
        with torch.autocast(self.device.type, torch.bfloat16):
            flow = flow_loss(network, batch.picture, batch.maps, tokens, batch.weight, generator, self.plan.least)
            if self.plan.least:
                return {"flow loss": (1.0, flow)}
            picture, maps, said, weight = (x[:long] for x in (batch.picture, batch.maps, tokens, batch.weight))
            stepped = step_loss(network, self.average, picture, maps, said, weight, generator)
        return {"flow loss": (1.0, flow), "long step loss": (STEPPED, stepped)}

    def save(self) -> None:
        """A checkpoint, and the prior as it is."""
        tensors: dict[str, Tensor] = {}
        for name, value in self.network.state_dict().items():
            tensors[f"network.{name}"] = value
        for name, value in self.average.state_dict().items():
            tensors[f"average.{name}"] = value
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        said = {"step": str(self.step), "pictures": str(self.pictures), "seconds": str(self.seconds)}
        with replacing(self.folder / "checkpoint.safetensors") as part:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, said)
        made = self.made()
        made.save(self.folder / self.file)
        plot(self.folder)
        if self.example is not None:
            picture_rows(self.folder / "samples.png", self.shown(made, self.example))

    def restore(self) -> None:
        """Goes on from a checkpoint, if there is one."""
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(under("network."))
        self.average.load_state_dict(under("average."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in under("optimiser.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        self.step, self.pictures, self.seconds = int(said["step"]), int(said["pictures"]), float(said["seconds"])

    def made(self) -> Any:
        """The averaged weights."""
        return Prior(deepcopy(self.average), self.info)

    @staticmethod
    def shown(made: Any, example: Any) -> list[Tensor]:
        """Rows of samples.png, each (B, C, H, W): what is told first, the truth, what is expected, a sample."""
        condition = Condition(example.maps, made.network.tokens(example.words))
        count, _, *size = example.picture.shape
        shape = (count, *size)
        sample = made.sample(condition, shape, generator=Generator().manual_seed(0))
        rows = [example.maps, example.picture, made.expected(condition, shape), sample]
        return [row * 0.5 + 0.5 for row in rows]

    @property
    def info(self) -> dict[str, str]:
        """What its file says of how it was made."""
        return {"pictures": str(self.pictures), "minutes": f"{self.seconds / 60:.1f}"}


class Sharpening(Training):
    """The same for an upscaler."""

    file = "upscaler.safetensors"

    def losses(self, batch: Any, generator: Generator) -> dict[str, tuple[float, Tensor]]:
        """See `Training.losses`."""
        with torch.autocast(self.device.type, torch.bfloat16):
            found = self.network(batch.coarse, batch.guide)
        return {"sharp loss": (1.0, charbonnier(found.float(), batch.sharp))}

    def made(self) -> Any:
        """See `Training.made`."""
        return Upscaler(deepcopy(self.average), self.info)

    @staticmethod
    def shown(made: Any, example: Any) -> list[Tensor]:
        """Coarse, the truth, what is made of it; see `Training.shown`."""
        coarse = example.coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return [coarse, example.sharp, made(example.coarse, example.guide)]


def drawn(batches: Callable[[int, Generator], Any], plan: Plan, first: int) -> Iterator[Any]:
    """Batches from the `first` step on, drawn by another thread; the same for the same seed, whoever is faster."""
    waiting: queue.Queue[Any] = queue.Queue(AHEAD)
    stop = threading.Event()

    def work() -> None:
        number = first // plan.reuse
        while not stop.is_set():
            try:
                with torch.no_grad():
                    made = batches(plan.batch, Generator().manual_seed(plan.seed * 104729 + number))
            except Exception as error:  # told where it is waited for
                made = error
            while not stop.is_set():
                try:
                    waiting.put(made, timeout=0.5)
                    break
                except queue.Full:
                    continue
            number += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            batch = waiting.get()
            if isinstance(batch, Exception):
                raise batch
            for _ in range(plan.reuse):
                yield batch
    finally:
        stop.set()
        thread.join()


def begun(task: str, plan: Plan, folder: Path, device: torch.device) -> Training:
    """A training that hasn't taken a step."""
    if task in UPSCALERS:
        return Sharpening(Imdn(UPSCALERS[task].shape), plan, folder, device)
    return Training(Network(TASKS[task].config()), plan, folder, device)


def train(task: str, batches: Callable[[int, Generator], Any], plan: Plan, folder: Path, device: torch.device) -> Any:
    """Trains, tells how far it is, keeps checkpoints.  Ctrl-C saves and ends."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    training = begun(task, plan, folder, device)
    training.restore()
    with torch.no_grad():
        training.example = batches(SHOWN, Generator().manual_seed(plan.seed)).to(device)
    reported, saved = time.monotonic(), time.monotonic()
    sums: dict[str, float] = {}
    since = training.step
    source = drawn(batches, plan, training.step)
    try:
        while training.done < 1:
            for name, value in training.learn(next(source).to(device)).items():
                sums[name] = sums.get(name, 0.0) + value
            now = time.monotonic()
            if now - reported > REPORT or training.done >= 1:
                count = training.step - since
                line = {
                    "step": training.step, "pictures": training.pictures, "done": round(training.done, 4),
                    **{name: round(value / count, 5) for name, value in sums.items()},
                    "pictures a second": round(count * plan.batch / (now - reported), 1),
                }  # fmt: skip
                with (folder / "training.jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
                left = (1 - training.done) / max(training.done, 1e-9) * training.seconds / 60
                tell(f"{task}: {line}, {left:.0f} min left")
                reported, since, sums = now, training.step, {}
            if now - saved > plan.checkpoint:
                training.save()
                saved = now
    except KeyboardInterrupt:
        tell(f"{task}: stopped; the same command goes on")
    finally:
        source.close()  # type: ignore[attr-defined]
        training.save()
    return training.made()


def tell(text: str) -> None:
    """A line for who watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def plot(folder: Path) -> None:
    """loss.png of training.jsonl, if there is any."""
    from matplotlib.figure import Figure

    log = folder / "training.jsonl"
    if not log.exists():
        return
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in (n for n in lines[0] if n.endswith("loss")):
        axes.plot([x["pictures"] for x in lines], [max(x[name], 1e-6) for x in lines], label=name)
    axes.set(xlabel="pictures shown", yscale="log")
    axes.legend()
    with replacing(folder / "loss.png") as part:
        figure.savefig(part, format="png")


def picture_rows(path: Path, rows: list[Tensor]) -> None:
    """A PNG of rows of pictures, each row (B, C, H, W), 0 to 1: the first three channels, or the last one repeated."""
    from matplotlib.image import imsave

    whole = torch.cat([torch.cat([p[[min(c, len(p) - 1) for c in range(3)]] for p in row], 2) for row in rows], 1)
    whole = whole.permute(1, 2, 0)
    with replacing(path) as part:
        imsave(part, (whole.float().clamp(0, 1) * 255).byte().cpu().numpy(), format="png")
