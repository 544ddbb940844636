"""The engine: updates, precision, the loop, and what stops it.

Generated from book/src/72_algorithm.md, book/src/93_long_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from cdlm.checkpoints import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from cdlm.data.augment import Augment, augment_images
from cdlm.data.batches import DomainBatch, draw_pair, normalize
from cdlm.data.domains import Domain, Split, checksum
from cdlm.methods.base import Learner, Method, draw_noise
from cdlm.processes import Team

__all__ = [
    "CANNOT_RESTORE",
    "Course",
    "DIVERGED",
    "Interrupted",
    "LossWindow",
    "NEVER",
    "Shared",
    "Trainer",
    "TrainingError",
    "begin",
    "changed",
    "compiled",
    "forward_of",
    "last_good",
    "leaves_some_out",
    "load_optimizer",
    "make_optimizer",
    "noted_interrupts",
    "place_on",
    "random_states",
    "restore_random",
    "run_identity",
    "share_of",
    "train",
]


# 72_algorithm: The engine

def make_optimizer(learner: Learner) -> torch.optim.Optimizer:
    """The optimizer that a learner asks for. Raises ValueError for an unknown one."""
    if learner.optimizer == "sgd":
        return torch.optim.SGD(learner.parameters, learner.lr, momentum=learner.momentum)
    if learner.optimizer == "adam":
        return torch.optim.Adam(learner.parameters, learner.lr)
    raise ValueError(f'optimizer of {learner.name} is {learner.optimizer!r}; it must be "sgd" or "adam"')


# 72_algorithm: The engine

class Trainer:
    """Optimizers and schedules of a method, and one iteration after the other, ``done`` of ``steps`` so far.

    With "bfloat16" the pass forward is done under autocast; parameters stay as they are. Raises ValueError for another
    precision.
    """

    def __init__(self, method: Method, steps: int, precision: str = "float32") -> None:
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision is {precision!r}; it must be "float32" or "bfloat16"')
        self.method, self.steps, self.done, self.precision = method, steps, 0, precision
        self.forward: Callable = method                 # what is called; a wrapper for several processes takes its place
        self.optimizers, self.schedules = {}, {}
        for learner in method.learners():
            optimizer = self.optimizers[learner.name] = make_optimizer(learner)
            factor = learner.schedule
            self.schedules[learner.name] = LambdaLR(optimizer, lambda done, factor=factor: factor(done / steps))

    def step(self, batch: DomainBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One iteration on a batch; returns the losses before its first update, detached."""
        return self.iterate(batch, draw_noise(self.method, len(batch.x_s), generator, batch.x_s.dtype))

    def iterate(self, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
        """One iteration with given noise: for each round a pass forward, a pass backward, and an update of its learners."""
        first, *later = self.method.rounds()
        losses = self.update(first, batch, eps)
        for names in later:
            self.update(names, batch, eps)
        for schedule in self.schedules.values():
            schedule.step()
        self.done += 1
        return losses

    def update(self, names: tuple[str, ...], batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
        """One pass forward and backward, and an update of the named learners."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        with torch.autocast(eps.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            objective, losses = self.forward(batch, eps, self.done / self.steps)
        objective.backward()
        for name in names:
            self.optimizers[name].step()
        return {name: value.detach() for name, value in losses.items()}


# 93_long_runs: Several processes

class Shared(nn.Module):
    """A method of which nothing with a gradient comes out but the objective."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: DomainBatch, eps: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        objective, losses = self.method(batch, eps, progress)
        return objective, {name: value.detach() for name, value in losses.items()}


def leaves_some_out(method: Method, images: tuple[Split, Split]) -> bool:
    """Whether the objective of a method gives no gradient to some of its parameters."""
    probe, (source, target) = deepcopy(method), images
    batch = DomainBatch(normalize(source.images[:4]), source.labels[:4], normalize(target.images[:4]))
    objective, _ = probe(batch, batch.x_s.new_zeros(method.noise[0], 4, method.noise[1]), 0.0)
    objective.backward()
    return any(parameter.grad is None for parameter in probe.parameters() if parameter.requires_grad)


def forward_of(method: Method, images: tuple[Split, Split], team: Team) -> Callable:
    """What a trainer calls as the forward pass of a method: the method itself, or what shares it with the team."""
    if team.size == 1:
        return method
    return DistributedDataParallel(Shared(method), find_unused_parameters=leaves_some_out(method, images))


# 93_long_runs: When a loss is lost

class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


DIVERGED = 1e6              # times its first value: a loss as large as that does not come back
NEVER = 1e9                 # in the place of a step that has not been


class LossWindow:
    """Sums of losses since the last row of the log, and when each was lost first; all on the losses' device.

    ``table`` is (4, losses): the sums, the limits, the steps at which a loss was lost first, and its values then.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.table: Tensor | None = None

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Take the losses of a step, scalars. Waits for nothing."""
        values = torch.stack([value.detach().to(torch.promote_types(value.dtype, torch.float32)) for value in losses.values()])
        if self.table is None:
            limits = DIVERGED * values.nan_to_num(1, 1, 1).abs().clamp_min(1)
            self.names = list(losses)
            self.table = torch.stack([torch.zeros_like(values), limits, torch.full_like(values, NEVER), torch.zeros_like(values)])
        sums, limits, lost, at_loss = self.table
        now = ~(values.abs() <= limits) & (lost == NEVER)           # also where a value is not a number
        self.table = torch.stack([sums + values, limits, torch.where(now, step, lost), torch.where(now, values, at_loss)])

    def read(self, team: Team) -> tuple[dict[str, float], str]:
        """The sums by name, over all processes, and of the loss that was lost first what to say of it, or ""."""
        sums, _, lost, at_loss = self.table
        sums, own, lost, at_loss = torch.stack([team.mean(sums.clone()), lost, team.least(lost.clone()), at_loss]).tolist()
        first = min(range(len(lost)), key=lost.__getitem__)
        value = f"{at_loss[first]:.4g}" if own[first] == lost[first] else "lost in another process"
        message = f"loss {self.names[first]!r} is {value} at step {lost[first]:.0f}" if lost[first] < NEVER else ""
        return dict(zip(self.names, sums)), message

    def settle(self, team: Team) -> None:
        """Give all processes of a team the same window, the mean of theirs, before the first of them stores it."""
        sums, limits, lost, at_loss = self.table
        if team.size > 1:
            self.table = torch.stack([team.mean(sums.clone()), team.least(limits.clone()), team.least(lost.clone()), at_loss])

    def clear(self) -> None:
        """Begin a new row."""
        self.table = torch.cat([torch.zeros_like(self.table[:1]), self.table[1:]])


# 93_long_runs: Everything that the next step reads

def random_states(generator: torch.Generator) -> dict[str, Tensor]:
    """States of torch's own random numbers and of ``generator``, by the kind of device they belong to."""
    kind = generator.device.type
    own = {"torch on cuda": torch.cuda.get_rng_state(generator.device)} if kind == "cuda" else {}
    return {"torch": torch.get_rng_state(), f"generator on {kind}": generator.get_state()} | own


def restore_random(generator: torch.Generator, states: Mapping[str, Tensor], step: int) -> None:
    """The inverse of random_states. On another kind of device, ``generator`` goes on from a seed of its own for ``step``."""
    kind = generator.device.type
    torch.set_rng_state(states["torch"])
    if f"generator on {kind}" in states:
        generator.set_state(states[f"generator on {kind}"])
    else:
        generator.manual_seed(generator.initial_seed() + 1_000_003 * step)
    if kind == "cuda" and "torch on cuda" in states:
        torch.cuda.set_rng_state(states["torch on cuda"], generator.device)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Load an optimizer's state. Raises ValueError where its tensors have not the shapes of the parameters."""
    optimizer.load_state_dict(state)
    for parameter, memory in optimizer.state.items():
        if any(isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape for value in memory.values()):
            raise ValueError("an optimizer's memory has not the shape of its parameters")


# 93_long_runs: Everything that the next step reads

class Course:
    """A training between two steps: its trainer, its random numbers, its log, and the losses since the log's last row."""

    def __init__(self, trainer: Trainer, generator: torch.Generator) -> None:
        self.trainer, self.generator, self.window = trainer, generator, LossWindow()
        self.log: list[dict[str, float]] = []

    def add_row(self, step: int, sums: dict[str, float]) -> dict[str, float]:
        """Close the window after ``step``: its mean losses become a row of the log, which is returned."""
        since = step - (self.log[-1]["step"] if self.log else 0)
        self.log.append({"step": step} | {name: total / since for name, total in sums.items()})
        self.window.clear()
        return self.log[-1]

    def state(self) -> dict[str, object]:
        """All that the next step reads, as nested dicts with tensors."""
        trainer = self.trainer
        return {
            "method": trainer.method.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
            "schedules": {name: schedule.state_dict() for name, schedule in trainer.schedules.items()} | {"done": trainer.done},
            "random": random_states(self.generator),
            "window": vars(self.window),
        }

    def restore(self, state: dict[str, object]) -> None:
        """Go back to a ``state``. Raises one of CANNOT_RESTORE where it does not fit."""
        trainer = self.trainer
        trainer.method.load_state_dict(state["method"])
        for name, optimizer in trainer.optimizers.items():
            load_optimizer(optimizer, state["optimizers"][name])
            trainer.schedules[name].load_state_dict(state["schedules"][name])
        trainer.done = state["schedules"]["done"]
        names, table = state["window"]["names"], state["window"]["table"]
        self.window.names, self.window.table = names, None if table is None else table.to(self.generator.device)
        restore_random(self.generator, state["random"], trainer.done)


CANNOT_RESTORE = (KeyError, TypeError, ValueError, RuntimeError, AttributeError)


# 93_long_runs: The loop

def run_identity(method: nn.Module, source: Domain, target: Domain, **settings: object) -> dict[str, object]:
    """What a training follows from, in plain values: method, its config, the images, and ``settings`` of the loop."""
    config = getattr(method, "config", None)
    fields = {f"setting {name}": value for name, value in vars(config).items()} if config is not None else {}
    images = {side: checksum(domain.train)[:16] for side, domain in (("source", source), ("target", target))}
    return json.loads(json.dumps({"method": type(method).__name__} | fields | images | settings))


# 93_long_runs: The loop

class Interrupted(KeyboardInterrupt):
    """Training was interrupted, and can be resumed; the message says how."""


@contextmanager
def noted_interrupts(wanted: bool, patient: bool = False) -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGINT or SIGTERM has come since; a second one interrupts at once, unless ``patient``.

    Where it is not ``wanted``, and outside of the main thread, which alone hears signals, nothing is changed.
    """
    noted = []
    def note(number: int, frame: object) -> None:
        if noted and not patient:
            raise KeyboardInterrupt
        noted.append(number)
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# 93_long_runs: The loop, whole

def begin(course: Course, images: tuple[Split, Split], checkpoint: Path | None, run: dict[str, object]) -> float:
    """Go back to the checkpoint, if there is one, or let the method prepare itself; returns seconds spent before.

    Raises CheckpointError for a checkpoint that is damaged or belongs elsewhere.
    """
    if checkpoint is None or not checkpoint.exists():
        course.trainer.method.prepare(*(split.images for split in images))
        return 0.0
    stored = read_checkpoint(checkpoint, run)
    try:
        course.restore(stored.state)
    except CANNOT_RESTORE:
        raise CheckpointError(f"{checkpoint} does not fit the networks of this run; were they changed since? Remove it to start "
                              "again, or go on with the version that wrote it") from None
    course.log = stored.log
    return stored.seconds


@contextmanager
def compiled(method: Method, wanted: bool) -> Iterator[None]:
    """Within the block, each network of a method is compiled when it is called first, if that is ``wanted``."""
    networks = list(method.children()) if wanted else []
    for network in networks:
        network.forward = torch.compile(network.forward)
    try:
        yield
    finally:
        for network in networks:
            del network.forward


def last_good(step: int, path: Path) -> str:
    """What an error adds where there is a checkpoint to go back to."""
    return f"; the last good checkpoint is of step {step}: {path}"


def place_on(device: str, method: nn.Module, channels_last: bool) -> torch.memory_format:
    """Move a method to a device, ready to train, in the order of memory that is wanted, which is returned."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    method.to(device).train().to(memory_format=order)
    return order


def changed(batch: DomainBatch, augment: Augment | None, strong: Augment | None, generator: torch.Generator) -> DomainBatch:
    """The batch with each image changed at random by ``augment``, and its target images once more, changed by ``strong``."""
    x_s, x_t = batch.x_s, batch.x_t
    if augment is not None:
        x_s, x_t = augment_images(torch.cat([x_s, x_t]), augment, generator).chunk(2)
    again = None if strong is None else augment_images(batch.x_t, strong, generator)
    return DomainBatch(x_s, batch.y_s, x_t, again, None if augment is None else batch.x_s)


def share_of(batch: DomainBatch, team: Team, order: torch.memory_format) -> DomainBatch:
    """The part of a batch that this process of the team works on, with its images in an order of memory."""
    x_s, x_t, again, plain = (x if x is None else team.share(x).contiguous(memory_format=order)
                              for x in (batch.x_s, batch.x_t, batch.x_t_again, batch.x_s_plain))
    return DomainBatch(x_s, team.share(batch.y_s), x_t, again, plain)


# 93_long_runs: The loop, whole

def train(method: Method, source: Domain, target: Domain, steps: int, seed: int = 0, batch_size: int = 64,
          device: str = "cpu", log_every: int = 50, report: Callable[[dict], None] | None = None, precision: str = "float32",
          channels_last: bool = False, compile: bool = False, checkpoint: Path | None = None, checkpoint_every: int = 500,
          team: Team | None = None, augment: Augment | None = None, strong: Augment | None = None) -> list[dict]:
    """Train ``method`` for a fixed number of steps; returns the log, a row each ``log_every`` steps with mean losses.

    Images live on ``device`` as bytes. ``report`` is called with each row. Target labels are never read. With ``checkpoint``,
    a file, the state is kept in it every ``checkpoint_every`` steps; if it is there already, training goes on from it and
    ends as it would have ended, rows already made being reported again. ``batch_size`` is that of the whole ``team``.
    With ``augment`` the images of both domains are changed at random, and with ``strong`` each target image comes a second
    time, changed by that.

    Raises TrainingError if a loss becomes infinite, not a number or very large, CheckpointError for a checkpoint that is
    damaged or belongs to another run, and Interrupted after the step in which an interrupt came, if a checkpoint is kept.
    """
    team, generator = team or Team(), torch.Generator(device).manual_seed(seed)
    images, order = (source.train.to(device), target.train.to(device)), place_on(device, method, channels_last)
    course, start, good = Course(Trainer(method, steps, precision), generator), time.monotonic(), ""
    run = run_identity(method, source, target, steps=steps, seed=seed, batch_size=batch_size, log_every=log_every,
                       precision=precision, augment=str(augment), strong=str(strong)) if checkpoint else {}
    start -= begin(course, images, checkpoint, run)
    if course.trainer.done:
        good = last_good(course.trainer.done, checkpoint)
    course.trainer.forward = forward_of(method, images, team)
    for row in course.log if report else ():
        report(row)
    with compiled(method, compile), noted_interrupts(checkpoint is not None, patient=team.size > 1) as interrupted:
        for step in range(course.trainer.done + 1, steps + 1):
            batch = changed(draw_pair(*images, batch_size, generator), augment, strong, generator)
            eps = draw_noise(method, batch_size, generator)
            course.window.add(step, course.trainer.iterate(share_of(batch, team, order), team.share(eps, 1)))
            row_due = step % log_every == 0 or step == steps
            stop = interrupted() if team.size == 1 else row_due and not team.all_agree(not interrupted())
            keep_due = checkpoint is not None and (stop or step % checkpoint_every == 0)
            if row_due or keep_due:
                sums, lost = course.window.read(team)
                if lost:
                    raise TrainingError(f"{lost}: lower the learning rates{good}")
            if row_due:
                row = course.add_row(step, sums)
                report(row) if report else None
            if keep_due:
                course.window.settle(team)
                if team.rank == 0:
                    write_checkpoint(checkpoint, Checkpoint(run, step, course.log, course.state(), time.monotonic() - start))
                good = last_good(step, checkpoint)
            if stop:
                raise Interrupted(f"interrupted at step {step}; the same command resumes it")
    method.eval()
    return course.log
