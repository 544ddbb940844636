"""The loop: steps from the first, or from the last checkpoint, to the end.

Generated from book/src/73_long_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cdlm.data.augment import Augment, augment_images
from cdlm.data.batches import DomainBatch, by_class, draw_numbers, draw_pair, normalize
from cdlm.data.domain import Domain, Split, checksum
from cdlm.methods.base import Trainable, draw_noise
from cdlm.model.normalization import facing
from cdlm.provenance import provenance
from cdlm.settings import flat
from cdlm.training.callbacks import Callback, Callbacks
from cdlm.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from cdlm.training.engine import Trainer, forward_of
from cdlm.training.team import Team
from cdlm.training.watch import Interrupted, LossWindow, TrainingError, noted_interrupts

__all__ = [
    "CANNOT_RESTORE",
    "Feed",
    "Loop",
    "MAY_MOVE",
    "Training",
    "begin",
    "changed",
    "compiled",
    "draws_by_class",
    "last_good",
    "load_optimizer",
    "maker_of",
    "order_of",
    "own_labels",
    "random_states",
    "restore_random",
    "restore_trainer",
    "run_identity",
    "share_of",
    "train",
    "trainer_state",
    "with_maker",
]


# 73_long_runs: Batches as a method asks for them

@torch.no_grad()
def own_labels(method: Trainable, images: Tensor) -> Tensor:
    """What a method in test mode calls target images, bytes (N, C, H, W): (N,), -1 for none.

    Raises ValueError for anything else than a whole number for each image.
    """
    method.eval()
    with facing(method, "target"):
        labels = method.relabel(images)
    method.train()
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        found = f"{tuple(labels.shape)} of {labels.dtype}; one int64 each is wanted"
        raise ValueError(f"{type(method).__name__} labels {len(images)} images by {found}")
    return labels


def draws_by_class(method: Trainable) -> bool:
    """Whether a method asks for batches in which all classes are equally frequent.

    Raises ValueError for a way to draw that there is not.
    """
    known = "uniform", "class-balanced"
    if method.sampler not in known:
        raise ValueError(f'sampler is {method.sampler!r}; it must be {" or ".join(known)}')
    return method.sampler == "class-balanced"


class Feed:
    """Draws batches as a method asks for them: all alike or by class, with its own labels.

    ``own`` are these labels (N,), -1 for none, of all target images; they are given anew every
    so many steps, 0 for never. Raises ValueError for a way to draw that there is not.
    """

    def __init__(self, method: Trainable, images: tuple[Split, Split],
                 batch_size: int) -> None:
        self.method, self.images, self.batch_size = method, images, batch_size
        self.own: Tensor | None = None
        epoch, every = math.ceil(len(images[1]) / batch_size), method.label_every
        self.every = epoch if every == "epoch" else every
        self.balanced = draws_by_class(method)
        self.places = [by_class(images[0].labels) if self.balanced else None, None]

    def take(self, own: Tensor) -> None:
        """Go on with these labels of all target images."""
        self.own = own
        self.places[1] = by_class(own) if self.balanced else None

    def refresh(self, done: int, team: Team) -> None:
        """Let the method label all target images, if that is due after ``done`` steps."""
        if self.every and done % self.every == 0:
            self.take(team.from_first(own_labels(self.method, self.images[1].images)))

    def draw(self, generator: torch.Generator) -> DomainBatch:
        """A batch of both domains."""
        if self.own is None and not self.balanced:
            return draw_pair(*self.images, self.batch_size, generator)
        (source, target), own = self.images, self.own
        i, j = (draw_numbers(split, self.batch_size, generator, places)
                for split, places in zip(self.images, self.places))
        x_s, x_t = normalize(source.images[i]), normalize(target.images[j])
        return DomainBatch(x_s, source.labels[i], x_t, y_t_own=None if own is None else own[j])


# 73_long_runs: Everything that the next step reads

def random_states(generator: torch.Generator) -> dict[str, Tensor]:
    """States of torch's own random numbers and of ``generator``, by the kind of device they
    belong to."""
    kind = generator.device.type
    own = ({"torch on cuda": torch.cuda.get_rng_state(generator.device)}
           if kind == "cuda" else {})
    return (
        {"torch": torch.get_rng_state(), f"generator on {kind}": generator.get_state()} | own)


def restore_random(generator: torch.Generator, states: Mapping[str, Tensor],
                   step: int) -> None:
    """The inverse of random_states.

    On another kind of device, ``generator`` goes on from a seed of its own for ``step``.
    """
    kind = generator.device.type
    torch.set_rng_state(states["torch"])
    if f"generator on {kind}" in states:
        generator.set_state(states[f"generator on {kind}"])
    else:
        generator.manual_seed(generator.initial_seed() + 1_000_003 * step)
    if kind == "cuda" and "torch on cuda" in states:
        torch.cuda.set_rng_state(states["torch on cuda"], generator.device)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Load an optimizer's state.

    Raises ValueError where its tensors have not the shapes of the parameters.
    """
    optimizer.load_state_dict(state)
    for parameter, memory in optimizer.state.items():
        if any(isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape
               for value in memory.values()):
            raise ValueError("an optimizer's memory has not the shape of its parameters")


def trainer_state(trainer: Trainer) -> dict[str, object]:
    """Method, optimizers and schedules of a trainer, as nested dicts with tensors."""
    return {
        "method": trainer.method.state_dict(),
        "optimizers": {name: optimizer.state_dict()
                       for name, optimizer in trainer.optimizers.items()},
        "schedules": {name: schedule.state_dict()
                      for name, schedule in trainer.schedules.items()}
        | {"done": trainer.done},
    }


def restore_trainer(trainer: Trainer, state: dict[str, object]) -> None:
    """The inverse of trainer_state."""
    trainer.method.load_state_dict(state["method"])
    for name, optimizer in trainer.optimizers.items():
        load_optimizer(optimizer, state["optimizers"][name])
        trainer.schedules[name].load_state_dict(state["schedules"][name])
    trainer.done = state["schedules"]["done"]


class Training:
    """A training between two steps: trainer, feed, random numbers, log, and latest losses."""

    def __init__(self, trainer: Trainer, generator: torch.Generator, feed: Feed) -> None:
        self.trainer, self.generator, self.feed = trainer, generator, feed
        self.window = LossWindow()
        self.log: list[dict[str, float]] = []
        self.kept = 0                       # the step of the last checkpoint

    def add_row(self, step: int, sums: dict[str, float]) -> dict[str, float]:
        """Close the window after ``step``: its mean losses become a row of the log, which is
        returned."""
        since = step - (self.log[-1]["step"] if self.log else 0)
        self.log.append({"step": step} | {name: total / since for name, total in sums.items()})
        self.window.clear()
        return self.log[-1]

    def state(self) -> dict[str, object]:
        """All that the next step reads, as nested dicts with tensors."""
        rest = {"random": random_states(self.generator), "window": vars(self.window)}
        own = {} if self.feed.own is None else {"own labels": self.feed.own}
        return trainer_state(self.trainer) | rest | own

    def restore(self, state: dict[str, object]) -> None:
        """Go back to a ``state``. Raises one of CANNOT_RESTORE where it does not fit."""
        restore_trainer(self.trainer, state)
        if self.feed.every:
            self.feed.take(state["own labels"].to(self.generator.device))
        names, table = state["window"]["names"], state["window"]["table"]
        self.window.names, self.window.table = (
            names, None if table is None else table.to(self.generator.device))
        restore_random(self.generator, state["random"], self.trainer.done)


CANNOT_RESTORE = (KeyError, TypeError, ValueError, RuntimeError, AttributeError)


# 73_long_runs: The loop

@dataclass(frozen=True)
class Loop:
    """How a training goes, whatever the method. Fields in ``MAY_MOVE`` change no result."""

    steps: int
    seed: int = 0
    batch_size: int = 64                # of the whole team
    log_every: int = 50
    precision: str = "float32"          # of the pass forward: "float32" or "bfloat16"
    augment: Augment | None = None      # random changes to the images of both domains
    strong: Augment | None = None       # target images come a second time, changed by this
    device: str = "cpu"
    channels_last: bool = False
    compile: bool = False
    checkpoint: Path | None = None      # a file; if it is there, training goes on from it
    checkpoint_every: int = 500


MAY_MOVE = ("device", "channels_last", "compile", "checkpoint", "checkpoint_every")


def run_identity(method: Trainable, source: Domain, target: Domain,
                 loop: Loop) -> dict[str, object]:
    """What a training follows from, in plain values: method, its config, the images, and the
    loop."""
    parts = [part for part in (method.config, method.images) if part is not None]
    asked = {f"setting {name}": value for part in parts for name, value in flat(part).items()}
    images = {side: checksum(domain.train)[:16]
              for side, domain in (("source", source), ("target", target))}
    how = {name: value for name, value in vars(loop).items() if name not in MAY_MOVE}
    how |= {name: str(how[name]) for name in ("augment", "strong")}
    return json.loads(json.dumps({"method": type(method).__name__} | asked | images | how))


# 73_long_runs: Who made it

def maker_of(loop: Loop, team: Team) -> dict[str, object]:
    """Code, versions, hardware and engine by which this process trains."""
    engine = {"device": loop.device, "processes": team.size,
              "channels_last": loop.channels_last, "compile": loop.compile}
    return provenance(loop.device) | {"engine": engine}


def with_maker(makers: list[dict], maker: dict[str, object], step: int) -> list[dict]:
    """The makers of a training that ``maker`` has taken to a step, after the others."""
    same = makers and makers[-1] | {"until": step} == maker | {"until": step}
    return [*(makers[:-1] if same else makers), maker | {"until": step}]


def keeper(training: Training, loop: Loop, team: Team, run: dict[str, object],
           begun: tuple[float, list[dict]]) -> Callable[[], None]:
    """A function that writes the checkpoint of a training as it stands; ``begun`` is what
    ``begin`` has returned."""
    seconds, makers = begun
    start = time.monotonic() - seconds
    maker = maker_of(loop, team) if loop.checkpoint else {}
    def write() -> None:
        step = training.trainer.done
        write_checkpoint(loop.checkpoint,
                         Checkpoint(run, step, training.log, training.state(),
                                    time.monotonic() - start, with_maker(makers, maker, step)))
    return write


# 73_long_runs: The loop, whole

def begin(training: Training, checkpoint: Path | None,
          run: dict[str, object]) -> tuple[float, list[dict]]:
    """Go back to the checkpoint, if there is one, or let the method prepare itself; returns
    seconds spent before, and the makers of what is there.

    Raises CheckpointError for a checkpoint that is damaged or belongs elsewhere, TrainingError
    for images that the method cannot prepare itself by.
    """
    if checkpoint is None or not checkpoint.exists():
        images = (split.images for split in training.feed.images)
        try:
            training.trainer.method.prepare(*images)
        except ValueError as error:
            raise TrainingError(f"{error}: take other settings, or more images") from None
        return 0.0, []
    stored = read_checkpoint(checkpoint, run)
    try:
        training.restore(stored.state)
    except CANNOT_RESTORE:
        raise CheckpointError(f"{checkpoint} does not fit the networks of this run; "
                              "were they changed since? Remove it to start again, "
                              "or go on with the version that wrote it") from None
    training.log, training.kept = stored.log, training.trainer.done
    return stored.seconds, stored.makers


@contextmanager
def compiled(method: Trainable, wanted: bool) -> Iterator[None]:
    """Within the block, each network of a method is compiled when it is called first, if that
    is ``wanted``."""
    networks = list(method.children()) if wanted else []
    for network in networks:
        network.forward = torch.compile(network.forward)
    try:
        yield
    finally:
        for network in networks:
            del network.forward


def last_good(step: int, path: Path | None) -> str:
    """What an error adds where there is a checkpoint to go back to: its ``step`` is not 0."""
    return f"; the last good checkpoint is of step {step}: {path}" if step else ""


def order_of(loop: Loop) -> torch.memory_format:
    """The order of memory in which a loop wants weights and images."""
    return torch.channels_last if loop.channels_last else torch.contiguous_format


def changed(batch: DomainBatch, augment: Augment | None, strong: Augment | None,
            generator: torch.Generator) -> DomainBatch:
    """The batch with its images changed at random, its target images also by ``strong``."""
    if augment is not None:
        both = torch.cat([batch.x_s, batch.x_t])
        x_s, x_t = augment_images(both, augment, generator).chunk(2)
    again = None if strong is None else augment_images(batch.x_t, strong, generator)
    if augment is None:
        return replace(batch, x_t_again=again)
    return replace(batch, x_s=x_s, x_t=x_t, x_t_again=again, x_s_plain=batch.x_s)


def share_of(batch: DomainBatch, team: Team, order: torch.memory_format) -> DomainBatch:
    """The part of a batch that this process works on, its images in an order of memory."""
    parts = {name: team.share(x) for name, x in vars(batch).items() if x is not None}
    images = {name: x.contiguous(memory_format=order)
              for name, x in parts.items() if x.dim() == 4}
    return replace(batch, **parts | images)


def new_training(method: Trainable, source: Domain, target: Domain, loop: Loop) -> Training:
    """A training before its first step: method and images are moved to the loop's device."""
    generator = torch.Generator(loop.device).manual_seed(loop.seed)
    images = source.train.to(loop.device), target.train.to(loop.device)
    method.to(loop.device).train().to(memory_format=order_of(loop))
    feed = Feed(method, images, loop.batch_size)
    return Training(Trainer(method, loop.steps, loop.precision), generator, feed)


def take_step(training: Training, step: int, loop: Loop, team: Team) -> dict[str, Tensor]:
    """Draw a batch and noise, let the trainer go one step on them, and note the losses, which
    are returned."""
    trainer, feed, generator = training.trainer, training.feed, training.generator
    feed.refresh(step - 1, team)
    batch = changed(feed.draw(generator), loop.augment, loop.strong, generator)
    eps = draw_noise(trainer.method, loop.batch_size, generator)
    losses = trainer.iterate(share_of(batch, team, order_of(loop)), team.share(eps, 1))
    training.window.add(step, losses)
    return losses


def close_step(training: Training, loop: Loop, team: Team, keep: bool,
               told: Callback, write: Callable[[], None]) -> None:
    """What is due after a step: a row of the log, and, if it is to be kept, a checkpoint.

    Raises TrainingError if a loss was lost.
    """
    step = training.trainer.done
    row_due = is_row(step, loop)
    if not row_due and not keep:
        return
    sums, lost = training.window.read(team)
    if lost:
        good = last_good(training.kept, loop.checkpoint)
        raise TrainingError(f"{lost}: lower the learning rates{good}")
    if row_due:
        told.on_log(training.add_row(step, sums))
    if keep:
        training.window.settle(team)
        if team.rank == 0:
            write()
        training.kept = step


def is_row(step: int, loop: Loop) -> bool:
    """Whether a row of the log is due after a step."""
    return step % loop.log_every == 0 or step == loop.steps


def stop_due(step: int, loop: Loop, team: Team, interrupted: bool) -> bool:
    """Whether to stop after a step; a team asks all its processes when a row is due."""
    if team.size == 1:
        return interrupted
    return is_row(step, loop) and not team.all_agree(not interrupted)


@contextmanager
def telling(callbacks: Iterable[Callback], log: list[dict]) -> Iterator[Callback]:
    """The callbacks as one, told the rows that are there; the block's end, whatever its kind,
    is told, too."""
    told = Callbacks(callbacks)
    try:
        for row in log:
            told.on_log(row)
        yield told
    finally:
        told.on_end(log)


def go_on(training: Training, loop: Loop, team: Team, told: Callback,
          write: Callable[[], None]) -> None:
    """All steps that are left. Raises Interrupted after the one in which an interrupt came, if
    a checkpoint is kept."""
    kept = loop.checkpoint is not None
    with noted_interrupts(kept, patient=team.size > 1) as interrupted:
        for step in range(training.trainer.done + 1, loop.steps + 1):
            told.on_step(step, take_step(training, step, loop, team))
            stop = stop_due(step, loop, team, interrupted())
            keep = kept and (stop or step % loop.checkpoint_every == 0)
            close_step(training, loop, team, keep, told, write)
            if stop:
                raise Interrupted(f"interrupted at step {step}; the same command resumes it")


def train(method: Trainable, source: Domain, target: Domain, loop: Loop,
          callbacks: Iterable[Callback] = (), team: Team | None = None) -> list[dict]:
    """Train ``method`` as ``loop`` says; returns the log, rows of mean losses.

    Images live on the loop's device as bytes. ``callbacks`` are told of steps, rows and the
    end. Target labels are never read. With a checkpoint the state is kept every
    ``checkpoint_every`` steps; a training that goes on from one ends as it would have ended,
    rows already made being told again.

    Raises TrainingError if a loss becomes infinite, not a number or very large,
    CheckpointError for a checkpoint that is damaged or belongs to another run, and
    Interrupted after the step in which an interrupt came, if a checkpoint is kept.
    """
    team, training = team or Team(), new_training(method, source, target, loop)
    trainer = training.trainer
    run = run_identity(method, source, target, loop) if loop.checkpoint else {}
    write = keeper(training, loop, team, run, begin(training, loop.checkpoint, run))
    trainer.forward = forward_of(method, training.feed.images, team)
    with compiled(method, loop.compile), telling(callbacks, training.log) as told:
        go_on(training, loop, team, told, write)
    method.eval()
    return training.log
