"""Seconds to an accuracy, beside other libraries.

Generated from book/src/75_fast.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from cdlm.data.batches import draw_pair, normalize
from cdlm.data.domain import Domain, Split
from cdlm.evaluation.accuracy import accuracy, predict
from cdlm.methods.base import Method
from cdlm.methods.cdlm import CDLM
from cdlm.methods.dann import DANN
from cdlm.model.gradients import reversal_strength, reverse_gradient
from cdlm.training.engine import Trainer

__all__ = ["RACERS", "Stopwatch", "measure_race", "race_line"]


# 75_fast: Seconds to an accuracy, beside other libraries

class Stopwatch:
    """Counts the steps and seconds of a training, and says when it has reached an accuracy on
    ``split``, or its end."""

    def __init__(self, split: Split, threshold: float, steps: int, every: int = 50) -> None:
        self.split, self.threshold, self.steps, self.every = split, threshold, steps, every
        self.done, self.seconds, self.best, self.reached = 0, 0.0, 0.0, False
        self.start = time.perf_counter()

    def go(self) -> None:
        """Start, when all is prepared; the first step takes its time from here."""
        self.start = time.perf_counter()

    def stop_after_step(self, network: nn.Module, logits: Callable[[Tensor], Tensor]) -> bool:
        """To be called after every step; now and then the clock stands still and ``logits``
        are looked at."""
        self.done += 1
        if self.done % self.every and self.done < self.steps:
            return False
        self.seconds += time.perf_counter() - self.start
        network.eval()
        found = accuracy(predict(logits, self.split.images), self.split.labels)
        network.train()
        self.best = max(self.best, found)
        self.reached = found >= self.threshold
        self.start = time.perf_counter()
        return self.reached or self.done >= self.steps

    def strength(self) -> float:
        """Of the gradient reversal, by the schedule of domain-adversarial training, for the
        share of steps done."""
        return reversal_strength(self.done / self.steps)


def race_ours(method: Method, source: Domain, target: Domain, watch: Stopwatch,
              batch_size: int) -> None:
    """Train one of our methods until the stopwatch says stop."""
    generator, trainer = torch.Generator().manual_seed(0), Trainer(method.train(), watch.steps)
    watch.go()
    while True:
        trainer.step(draw_pair(source.train, target.train, batch_size, generator), generator)
        if watch.stop_after_step(method, method.logits):
            return


def dann_optimizer(model: DANN, watch: Stopwatch) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The optimizer of our domain-adversarial training and its schedule, for the loops of
    others."""
    learner, = model.learners()
    optimizer = torch.optim.SGD(learner.parameters, learner.lr, momentum=learner.momentum)
    return optimizer, LambdaLR(optimizer, lambda done: learner.schedule(done / watch.steps))


def race_pytorch_adapt(model: DANN, source: Domain, target: Domain, watch: Stopwatch,
                       batch_size: int) -> None:
    """The same for pytorch-adapt's DANNHook, fed by its own joint data set through a
    DataLoader. Raises ImportError."""
    hooks, data = (importlib.import_module(f"pytorch_adapt.{name}")
                   for name in ("hooks", "datasets"))
    optimizer, schedule = dann_optimizer(model, watch)
    features = hooks.FeaturesForDomainLossHook()
    reversal = hooks.dann.GradientReversalHook(weight=0.0, apply_to=features.out_keys)
    hook = hooks.DANNHook(opts=[optimizer], f_hook=features, gradient_reversal=reversal)
    pairs = [TensorDataset(normalize(domain.train.images), domain.train.labels)
             for domain in (source, target)]
    joint = data.CombinedSourceAndTargetDataset(data.SourceDataset(pairs[0]),
                                                data.TargetDataset(pairs[1]))
    loader = DataLoader(joint, batch_size, shuffle=True, drop_last=True)
    networks = {"G": model.classifier.layers[:-1], "C": model.classifier.layers[-1],
                "D": model.discriminator}
    model.train()
    watch.go()
    while True:
        for batch in loader:
            reversal.fn.update_weight(watch.strength())
            hook({**networks, **batch})
            schedule.step()
            if watch.stop_after_step(model, model.logits):
                return


class ReversedGuess(nn.Module):
    """The discriminator of ``model`` behind a gradient reversal of a strength that can be set,
    as a probability."""

    def __init__(self, model: DANN) -> None:
        super().__init__()
        self.discriminator, self.strength = model.discriminator, 0.0

    def forward(self, h: Tensor, sample_weight: object = None) -> Tensor:
        """Probabilities (batch,) of features (batch, d)."""
        return self.discriminator(reverse_gradient(h, self.strength)).sigmoid()


class Readout(nn.Module):
    """The classifier of ``model`` with the signature that skada calls."""

    def __init__(self, model: DANN) -> None:
        super().__init__()
        self.features, self.last = model.classifier.layers[:-1], model.classifier.layers[-1]

    def forward(self, x: Tensor, sample_weight: object = None) -> Tensor:
        """Class logits (batch, classes) of images."""
        return self.last(self.features(x))


class RaceOver(Exception):
    """The way out of a training loop that is not ours."""


def as_skada_wants(source: Domain, target: Domain) -> list[Tensor]:
    """Images of both domains, their labels with -1 for none, and 1 or -1 for the domain."""
    images = torch.cat([normalize(domain.train.images) for domain in (source, target)])
    labels = torch.cat([source.train.labels, torch.full((len(target.train),), -1)])
    domains = torch.cat([torch.ones(len(source.train)), -torch.ones(len(target.train))]).long()
    return [images, labels, domains]


def race_skada(model: DANN, source: Domain, target: Domain, watch: Stopwatch,
               batch_size: int) -> None:
    """The same for skada's DANN, in its own loop, which a callback watches.

    Raises ImportError if skada is missing.
    """
    deep, callbacks = (importlib.import_module(name)
                       for name in ("skada.deep", "skorch.callbacks"))
    learner, = model.learners()
    guess, readout = ReversedGuess(model), Readout(model)
    class Watch(callbacks.Callback):
        def on_batch_end(self, net: object, training: bool = False, **rest: object) -> None:
            guess.strength = watch.strength()
            if watch.stop_after_step(model, model.logits):
                raise RaceOver
    schedule = callbacks.LRScheduler(
        LambdaLR, lr_lambda=lambda done: learner.schedule(done / watch.steps),
        step_every="batch")
    net = deep.DANN(readout, "features", domain_classifier=guess, max_epochs=watch.steps,
                    batch_size=batch_size, optimizer=torch.optim.SGD,
                    optimizer__momentum=learner.momentum, lr=learner.lr, train_split=None,
                    verbose=0, callbacks=[("schedule", schedule), ("watch", Watch())])
    images, labels, domains = (part.numpy() for part in as_skada_wants(source, target))
    watch.go()
    try:
        net.fit(images, labels, sample_domain=domains)
    except RaceOver:
        pass


RACERS = {
    "CDLM": (CDLM, race_ours), "DANN": (DANN, race_ours),
    "DANN, pytorch-adapt": (DANN, race_pytorch_adapt), "DANN, skada": (DANN, race_skada),
}


def measure_race(source: Domain, target: Domain, threshold: float, steps: int = 1500,
                 batch_size: int = 64, seed: int = 0,
                 racers: tuple[str, ...] = tuple(RACERS)) -> dict[str, dict[str, object]]:
    """Seconds, steps and best accuracy of each racer on the target's test images, until
    ``threshold`` or ``steps``.

    What is not installed has a row that says so. Target labels stop the clock; they are not
    trained on.
    """
    rows = {}
    for name in racers:
        make, race = RACERS[name]
        torch.manual_seed(seed)
        method, watch = make(), Stopwatch(target.test, threshold, steps)
        try:
            race(method, source, target, watch, batch_size)
        except ImportError as error:
            rows[name] = {"installed": False, "why": f"not installed ({error})"}
            continue
        rows[name] = {"installed": True, "reached": watch.reached,
                      "seconds": round(watch.seconds, 2), "steps": watch.done,
                      "best_accuracy": round(watch.best, 4),
                      "ms_per_step": round(1000 * watch.seconds / watch.done, 2)}
    return rows


def race_line(row: Mapping[str, object]) -> str:
    """A row of a race as text."""
    if not row["installed"]:
        return str(row["why"])
    how = "reached after" if row["reached"] else "NOT reached in"
    return (f"{how} {row['seconds']:7.1f} s, {row['steps']:5} steps of "
            f"{row['ms_per_step']:6.1f} ms; best accuracy seen {row['best_accuracy']:.3f}")
