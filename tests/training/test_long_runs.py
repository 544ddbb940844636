"""The loop, its checkpoints, and what becomes of a training that is killed, interrupted, damaged or lost."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import long_run
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from long_run import EVERY, STEPS, random_domain, small, training
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import OwnLabels

from cdlm.data.augment import Augment
from cdlm.files import replacing, sweep
from cdlm.methods.base import Learner, Method
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.mcd import MCD, MCDConfig
from cdlm.methods.registry import METHODS as REGISTERED
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.methods.stargan import StarGAN, StarGANConfig
from cdlm.training import checkpoints
from cdlm.training.callbacks import OnLog
from cdlm.training.checkpoints import (
    FORMAT,
    Checkpoint,
    CheckpointError,
    before_of,
    compare_runs,
    join_state,
    read_checkpoint,
    split_state,
    write_checkpoint,
)
from cdlm.training.loop import Loop, restore_random, train
from cdlm.training.team import Team
from cdlm.training.watch import Interrupted, LossWindow, TrainingError, noted_interrupts

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
RUN = {"method": "A", "seed": 0}


def equal_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole() -> tuple[dict[str, Tensor], list[dict]]:
    """Weights and log of the training that nobody interrupts."""
    model, log = training(None)
    return model.state_dict(), log


def checkpoint_of(**changes: object) -> Checkpoint:
    state = {"method": {"weight": torch.arange(4.0)}, "random": {"torch": torch.arange(9, dtype=torch.uint8)}}
    return replace(Checkpoint(dict(RUN), 5, [{"step": 5, "task": 0.5}], state, 1.5), **changes)


# Splitting and joining

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
tensors = st.builds(lambda size, kind: torch.arange(size).to(kind), st.integers(0, 5),
                    st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.int64, torch.bool]))
trees = st.recursive(plain | tensors, lambda inner: st.lists(inner, max_size=3)
                     | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3), max_leaves=12)


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(trees)
@settings(max_examples=100, deadline=None)
def test_a_state_that_is_split_and_joined_is_the_same(tree: object) -> None:
    found = {}
    text = json.dumps(split_state(tree, found))
    assert same(tree, join_state(json.loads(text), found))


def test_a_state_keeps_no_tensor_of_the_model() -> None:
    layer, found = nn.Linear(2, 2), {}
    split_state(layer.state_dict(), found)
    before = found["state/weight"].clone()
    with torch.no_grad():
        layer.weight.add_(1)
    assert torch.equal(found["state/weight"], before) and not found["state/weight"].requires_grad


def test_what_is_neither_tensor_nor_plain_is_refused() -> None:
    with pytest.raises(TypeError, match="state/a/1 is a object"):
        split_state({"a": [1, object()]}, {})


# Writing

def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path, stored = tmp_path / "c.safetensors", checkpoint_of()
    write_checkpoint(path, stored)
    again = read_checkpoint(path, RUN)
    assert (again.run, again.step, again.log, again.seconds) == (stored.run, stored.step, stored.log, stored.seconds)
    assert same(stored.state, again.state)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *words: (done.append("replace"), rename(*words)))
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert done == ["fsync", "replace", "fsync"] if os.name == "posix" else done == ["fsync", "replace"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in ("c.safetensors", ".c.safetensors.123", ".other.safetensors.1", "c.safetensors.1"):
        (tmp_path / name).write_text("")
    sweep(tmp_path / "c.safetensors")
    assert not (tmp_path / ".c.safetensors.123").exists() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_written(tmp_path: Path, value: float) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, checkpoint_of())
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="state/method/weight is not finite after step 7: no checkpoint is written"):
        write_checkpoint(path, checkpoint_of(step=7, state={"method": {"weight": torch.tensor([1.0, value])}}))
    assert path.read_bytes() == before


def test_a_full_disk_gets_one_sentence_and_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, checkpoint_of())

    def full(*words: object, **more: object) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CheckpointError, match="cannot be written .*No space left"):
        write_checkpoint(path, checkpoint_of(step=6))
    assert read_checkpoint(path).step == 5


# Reading without trust

@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, checkpoint_of())
    return path


def rewrite(path: Path, **changes: object) -> None:
    """Store a checkpoint with another header."""
    note = {"run": RUN, "step": 5, "log": [], "seconds": 0.0, "torch": "2", "format": FORMAT, "state": {"items": []}} | changes
    save_file({"x": torch.zeros(1)}, path, metadata={"cdlm": json.dumps({k: v for k, v in note.items() if v is not None})})


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -200, -1])
def test_a_truncated_checkpoint_is_refused(stored: Path, keep: int) -> None:
    stored.write_bytes(stored.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is damaged, or no checkpoint: remove it"):
        read_checkpoint(stored, RUN)


class Touch:
    """Unpickling this creates a file: what an attacker would put into a checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_executed(tmp_path: Path, save) -> None:
    trap, path = tmp_path / "executed", tmp_path / "c.safetensors"
    with open(path, "wb") as file:
        save(Touch(trap), file)
    with pytest.raises(CheckpointError, match="is damaged, or no checkpoint"):
        read_checkpoint(path)
    assert not trap.exists()


@pytest.mark.parametrize("changes, words", [
    ({"format": FORMAT + 1}, "by a newer version of cdlm"), ({"format": FORMAT - 1}, "by an older version of cdlm"),
    ({"format": None}, "is no checkpoint of cdlm"), ({"format": "1"}, "is no checkpoint of cdlm"),
    ({"step": "5"}, "is no checkpoint of cdlm"), ({"log": {}}, "is no checkpoint of cdlm"),
    ({"run": {**RUN, "seed": 1}}, "belongs to another run: seed is 1 there and 0 here; give the same settings"),
    ({"run": {"seed": 0}}, "method is not given there and 'A' here"),
    ({"state": {"items": [["a", {"tensor": "gone"}]]}}, "is damaged"), ({"state": {"other": 1}}, "is damaged"),
    ({"state": {"items": 5}}, "is damaged"), ({"state": {"items": [[[], 1]]}}, "is damaged"),
])
def test_foreign_checkpoints_are_refused_with_a_reason(stored: Path, changes: dict, words: str) -> None:
    rewrite(stored, **changes)
    with pytest.raises(CheckpointError, match=words) as error:
        read_checkpoint(stored, RUN)
    assert "\n" not in str(error.value) and str(stored) in str(error.value)


def test_other_safetensors_files_are_no_checkpoints(stored: Path) -> None:
    for more in ({}, {"metadata": {"format": "pt"}}, {"metadata": {"cdlm": "[" * 100_000}}, {"metadata": {"cdlm": "{"}}):
        save_file({"weight": torch.zeros(3)}, stored, **more)
        with pytest.raises(CheckpointError, match="no checkpoint"):
            read_checkpoint(stored, RUN)


def test_a_checkpoint_too_large_is_not_even_opened(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_CHECKPOINT_BYTES", 10)
    with pytest.raises(CheckpointError, match="more than 10 bytes"):
        read_checkpoint(stored)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read|is damaged"):
            read_checkpoint(path)


@cache
def checkpoint_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        write_checkpoint(Path(place) / "c", checkpoint_of())
        return (Path(place) / "c").read_bytes()


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_refused_or_harmless(place: int, flip: int) -> None:
    """Whatever is damaged, the answer is a checkpoint or one of our errors, never another exception."""
    content = bytearray(checkpoint_bytes())
    content[place % len(content)] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        path.write_bytes(content)
        try:
            assert read_checkpoint(path, RUN).run == RUN
        except CheckpointError as error:
            assert str(path) in str(error)


def test_compared_runs_tell_all_their_differences() -> None:
    assert compare_runs({"a": 1, "b": 2}, {"a": 1, "b": 2}) == ""
    assert compare_runs({"a": 1, "b": 2}, {"a": 3, "b": 4}) == "a is 1 there and 3 here; b is 2 there and 4 here"
    assert compare_runs({"a": None}, {}) == "a is None there and not given here"


# Resuming

METHODS = {
    "source": lambda: SourceOnly(SourceConfig(width=2)),
    "dann": lambda: DANN(DANNConfig(width=2, hidden=4)),
    "dann, adam": lambda: DANN(DANNConfig(width=2, hidden=4, optimizer="adam", alignment="coral")),
    "cdlm": lambda: CDLM(CDLMConfig.of(width=2, latent=2)),
    "cdlm, batch norm": lambda: CDLM(CDLMConfig.of(width=2, latent=2, normalization="batch")),
    "cdlm, alternating": lambda: CDLM(CDLMConfig.of(width=2, latent=2, updates="alternating", inner_phi=2)),
    "mcd": lambda: MCD(MCDConfig(width=2, inner=2)),
    "own labels each epoch": lambda: OwnLabels(),
    "own labels every second step": lambda: OwnLabels(label_every=2),
    "cdlm, pca": lambda: CDLM(CDLMConfig.of(width=2, latent=2, features="pca")),
} | {name: lambda pair=REGISTERED[name]: pair[0](pair[1].of(width=2, latent=2))
     for name in ("cdan", "mcc", "shot", "adamatch", "tpn", "symmnets", "ilada", "pixelda", "gta", "cycada",
                  "unit", "cdrd", "ecdrd", "datl")} | {"stargan": lambda: StarGAN(StarGANConfig(width=2))}


def built(name: str) -> Method:
    torch.manual_seed(0)
    return METHODS[name]()


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_training_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    """Stopped after three rows, whatever the method; what is not in the checkpoint is another one each time."""
    loop, path = Loop(9, batch_size=4, log_every=2, checkpoint_every=3), tmp_path / "c.safetensors"
    loop = replace(loop, strong=Augment(shift=0.1) if name == "adamatch" else None)
    kept = replace(loop, checkpoint=path)
    pair = random_domain("s", 0), random_domain("t", 1)
    expected = built(name)
    log = train(expected, *pair, loop)

    def stop_at(step: int):
        def report(row: dict) -> None:
            if row["step"] == step:
                raise Killed
        return report
    with pytest.raises(Killed):
        train(built(name), *pair, kept, [OnLog(stop_at(4))])
    for step in (6, 8):
        torch.manual_seed(step)                                     # nothing of a process's own past may count
        with pytest.raises(Killed):
            train(METHODS[name](), *pair, kept, [OnLog(stop_at(step))])
    resumed, rows = METHODS[name](), []
    assert train(resumed, *pair, kept, [OnLog(rows.append)]) == log == rows
    assert equal_weights(resumed.state_dict(), expected.state_dict())
    assert read_checkpoint(path).step == 9


def test_checkpoints_change_nothing(whole, tmp_path: Path) -> None:
    model, log = training(tmp_path / "c")
    assert log == whole[1] and equal_weights(model.state_dict(), whole[0])


def test_a_finished_training_that_is_resumed_has_nothing_left_to_do(whole, tmp_path: Path) -> None:
    path = tmp_path / "c"
    training(path)
    model, log = training(path)
    assert log == whole[1] and equal_weights(model.state_dict(), whole[0])


def test_torchs_own_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    class Dropped(SourceOnly):
        def forward(self, batch, eps, now):
            return super().forward(replace(batch, x_s=nn.functional.dropout(batch.x_s)), eps, now)
    pair, results = (random_domain("s", 0), random_domain("t", 1)), []
    for path, seeds in ((None, (0,)), (tmp_path / "c", (0, 1))):
        for seed in seeds:
            torch.manual_seed(0)
            model = Dropped(SourceConfig(width=2))
            torch.manual_seed(seed)
            train(model, *pair, Loop(5, batch_size=4, checkpoint=path, checkpoint_every=3))
        results.append(model.state_dict())
    assert equal_weights(*results)


@pytest.mark.slow
@pytest.mark.parametrize("changes, words", [
    ({"seed": 1}, "seed is 0 there and 1 here"), ({"steps": 25}, "steps is 24 there and 25 here"),
    ({"batch_size": 5}, "batch_size is 4 there and 5 here"), ({"log_every": 3}, "log_every is 2 there and 3 here"),
    ({"precision": "bfloat16"}, "precision is 'float32' there and 'bfloat16' here"),
    ({"source": random_domain("s", 5)}, "source is '"), ({"method": small(gamma1=0.5)}, "setting gamma1 is 1.0 there and 0.5 here"),
    ({"method": SourceOnly(SourceConfig(width=2))}, "method is 'CDLM' there and 'SourceOnly' here"),
])
def test_another_runs_checkpoint_is_refused_with_the_difference(tmp_path: Path, changes: dict, words: str) -> None:
    path = tmp_path / "c"
    training(path)
    before = path.read_bytes()
    loop = Loop(STEPS, batch_size=4, log_every=2, checkpoint=path)
    how = {name: changes[name] for name in changes if name not in ("method", "source")}
    who = {"method": small(), "source": random_domain("s", 0)} | {name: changes[name] for name in changes if name not in how}
    with pytest.raises(CheckpointError, match=words):
        train(**who, target=random_domain("t", 1), loop=replace(loop, **how))
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("damage", [
    lambda state: state["method"].popitem(), lambda state: state["optimizers"].popitem(), lambda state: state.pop("random"),
    lambda state: state["method"].update({next(iter(state["method"])): torch.zeros(7)}),
    lambda state: next(iter(state["optimizers"].values()))["state"][0].update(momentum_buffer=torch.zeros(3, 3)),
    lambda state: state["random"].update(torch=torch.zeros(3, dtype=torch.uint8)),
    lambda state: state.update(window=None), lambda state: state.update(optimizers={"phi": 3})])
def test_a_state_that_does_not_fit_the_networks_is_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / "c"
    training(path)
    stored = read_checkpoint(path)
    damage(stored.state)
    write_checkpoint(path, stored)
    with pytest.raises(CheckpointError, match="does not fit the networks of this run"):
        training(path)


def test_preparation_is_kept_and_not_repeated(tmp_path: Path) -> None:
    class Prepared(SourceOnly):
        def __init__(self) -> None:
            super().__init__(SourceConfig(width=2))
            self.register_buffer("seen", torch.zeros(2))
            self.times = 0

        def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
            self.times += 1
            self.seen += torch.tensor([len(source_images), len(target_images)])
    for times in (1, 0):
        model = Prepared()
        pair = random_domain("s", 0), random_domain("t", 1, 30)
        train(model, *pair, Loop(4, batch_size=4, checkpoint=tmp_path / "c", checkpoint_every=2))
        assert model.times == times and model.seen.tolist() == [40, 30]


def test_random_numbers_of_another_kind_of_device_begin_anew_the_same_way_each_time() -> None:
    states = {"torch": torch.get_rng_state(), "generator on cuda": torch.zeros(16, dtype=torch.uint8)}
    drawn = []
    for step in (5, 5, 6):
        generator = torch.Generator().manual_seed(3)
        restore_random(generator, states, step)
        drawn.append(torch.rand(4, generator=generator))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], torch.rand(4, generator=torch.Generator().manual_seed(3)))


# Killed for good

def child(folder: Path, *words: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, long_run.__file__, folder, *map(str, words)], stdout=subprocess.PIPE, text=True)


def finish(folder: Path, whole: tuple[dict[str, Tensor], list[dict]]) -> None:
    """Resume what is in a folder, and compare it with the training that nobody killed."""
    done = child(folder)
    done.communicate(timeout=600)
    assert done.returncode == 0
    assert equal_weights(load_file(folder / "weights.safetensors"), whole[0])
    assert json.loads((folder / "log.json").read_text()) == whole[1]


def kill_after(folder: Path, rows: int) -> None:
    """Start or resume the training in a folder, and kill it when it has reported so many rows."""
    process = child(folder)
    for _ in range(rows):
        process.stdout.readline()
    process.kill()
    process.communicate(timeout=600)


@pytest.mark.slow
@posix
def test_killed_at_three_random_moments_it_ends_with_the_same_bits(whole, tmp_path: Path) -> None:
    """One training that dies three times, each time later; rows are reported again by those that resume it."""
    for rows in sorted(random.Random(0).sample(range(1, STEPS // 2), 3)):
        kill_after(tmp_path, rows)
    finish(tmp_path, whole)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("number", [*range(6), *(pytest.param(n, marks=pytest.mark.everything) for n in range(6, 20))])
def test_killed_at_twenty_random_moments(whole, tmp_path: Path, number: int) -> None:
    """Each of the twenty may come in the middle of anything: a step, a report, a write."""
    dice = random.Random(number)
    process = child(tmp_path)
    process.stdout.readline()
    try:
        process.wait(timeout=dice.uniform(0, 0.4))
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate(timeout=600)
    finish(tmp_path, whole)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("where, count", [("save", 4), ("replace", 3), ("save", 1), ("fsync", 1), ("fsync", 6), ("replace", 1)])
def test_killed_while_it_writes_a_checkpoint(whole, tmp_path: Path, where: str, count: int) -> None:
    """The checkpoint of before is still there, whatever was left beside it does not matter, and the end is the same."""
    process = child(tmp_path, where, count)
    process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL
    path = tmp_path / "kept.safetensors"
    left = [p for p in tmp_path.iterdir() if p not in (path, before_of(path))]
    assert path.exists() == ((where, count) not in (("save", 1), ("fsync", 1), ("replace", 1)))
    assert not path.exists() or read_checkpoint(path).step % EVERY == 0
    assert not before_of(path).exists() or read_checkpoint(before_of(path)).step <= read_checkpoint(path).step
    assert len(left) == 1 and left[0].name.startswith(".kept.safetensors.") or where == "fsync" and count % 2 == 0 and not left
    finish(tmp_path, whole)


# Interrupted

@posix
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_step(whole, tmp_path: Path, kind: signal.Signals) -> None:
    path = tmp_path / "c"

    def report(row: dict) -> None:
        if row["step"] == 8:
            os.kill(os.getpid(), kind)
    before = signal.getsignal(kind)
    with pytest.raises(Interrupted, match="interrupted at step 9; the same command resumes it|at step 8; the same"):
        training(path, report)
    assert signal.getsignal(kind) is before
    assert read_checkpoint(path).step in (8, 9)
    model, log = training(path)
    assert log == whole[1] and equal_weights(model.state_dict(), whole[0])


@posix
def test_a_second_interrupt_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt) as error, noted_interrupts(True) as noted:
        os.kill(os.getpid(), signal.SIGINT)
        while not noted():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(10**7):
            pass
    assert error.type is KeyboardInterrupt


@posix
def test_without_a_checkpoint_an_interrupt_is_what_it_always_was() -> None:
    def report(row: dict) -> None:
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as error:
        training(None, report)
    assert error.type is KeyboardInterrupt


# Lost losses

class Scripted(Method):
    """A method whose losses are read from a list."""

    def __init__(self, *losses: dict[str, float]) -> None:
        super().__init__()
        self.losses, self.weight, self.calls = losses, nn.Parameter(torch.zeros(())), 0

    def learners(self) -> list[Learner]:
        return [Learner("all", (self.weight,), 0.1)]

    def forward(self, batch, eps, now):
        losses = {name: torch.tensor(value) for name, value in self.losses[min(self.calls, len(self.losses) - 1)].items()}
        self.calls += 1
        return 0 * self.weight, losses


def train_scripted(*losses: dict[str, float], **more) -> list[dict]:
    settings = {"steps": 12, "batch_size": 2, "log_every": 6} | more
    return train(Scripted(*losses), random_domain("s", 0), random_domain("t", 1), Loop(**settings))


@pytest.mark.parametrize("value, shown", [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (-4e8, "-4e+08")])
def test_the_first_step_at_which_a_loss_is_lost_is_named(value: float, shown: str) -> None:
    good, bad = {"rec": 300.0, "task": 2.0}, {"rec": 300.0, "task": value}
    with pytest.raises(TrainingError, match=f"^loss 'task' is {shown.replace('+', '.')} at step 3: lower the learning rates$"):
        train_scripted(good, good, bad, good, {"rec": math.nan, "task": math.nan})


@pytest.mark.parametrize("first, factor, lost", [
    (300.0, 0.9e6, False), (300.0, 1.1e6, True), (0.001, 0.9e9, False), (0.001, 1.1e9, True), (-300.0, -1.1e6, True)])
def test_a_loss_diverges_at_a_million_times_its_first_value_or_one(first: float, factor: float, lost: bool) -> None:
    losses = {"rec": first}, {"rec": first * factor}, {"rec": first}
    if not lost:
        assert len(train_scripted(*losses)) == 2
        return
    with pytest.raises(TrainingError, match="'rec' is .* at step 2"):
        train_scripted(*losses)


def test_the_last_good_checkpoint_is_named_and_is_good(tmp_path: Path) -> None:
    path = tmp_path / "c"
    losses = [{"task": 1.0}] * 7 + [{"task": math.nan}]
    with pytest.raises(TrainingError, match=r"'task' is nan at step 8: .*; the last good checkpoint is of step 5: .*c$"):
        train_scripted(*losses, checkpoint=path, checkpoint_every=5)
    assert read_checkpoint(path).step == 5
    with pytest.raises(TrainingError, match="nan at step 1: lower the learning rates$"):
        train_scripted({"task": math.nan}, checkpoint=tmp_path / "d", checkpoint_every=1)
    assert not (tmp_path / "d").exists()


def test_a_resumed_training_knows_its_checkpoint_when_it_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "c"
    train_scripted({"task": 1.0}, checkpoint=path, checkpoint_every=5)
    with pytest.raises(TrainingError, match="at step 11: lower the learning rates; the last good checkpoint is of step 10: "):
        train_scripted({"task": math.inf}, checkpoint=path, checkpoint_every=5)


def test_a_window_keeps_types_and_sums() -> None:
    window = LossWindow()
    for step, value in enumerate((1.0, 2.0, 4.0), start=1):
        window.add(step, {"a": torch.tensor(value, dtype=torch.bfloat16), "b": torch.tensor(value, dtype=torch.float64)})
    assert window.table.dtype == torch.float64
    assert window.read(Team()) == ({"a": 7.0, "b": 7.0}, "")
    window.clear()
    assert window.read(Team())[0] == {"a": 0.0, "b": 0.0} and window.table[1].tolist() == [1e6, 1e6]


class Counted(TorchDispatchMode):
    """Counts the operations that make a program wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.waits += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_the_loop_reads_nothing_from_the_device_between_two_rows() -> None:
    """With SGD, which does not count its steps in tensors on the processor, as Adam does."""
    counts = []
    for log_every in (1, 8):
        with Counted() as counted:
            train(built("dann"), random_domain("s", 0), random_domain("t", 1), Loop(8, batch_size=4, log_every=log_every))
        counts.append(counted.waits)
    assert counts == [0, 0]                         # rows themselves are read as one list, which is not counted here


# Compiled networks

@pytest.mark.slow
def test_networks_are_compiled_once_and_only_while_training(whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled by a backend that changes nothing: the log is the same, and no step makes it compile anew."""
    from torch._dynamo.testing import CompileCounter
    counter, compile = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile(function, backend=counter))
    model, pair = small(), (random_domain("s", 0), random_domain("t", 1))
    log = train(model, *pair, Loop(STEPS, batch_size=4, log_every=2, compile=True))
    assert 4 <= counter.frame_count <= 8                            # encoder, decoder, classifier, discriminator: one or two sizes
    assert all("forward" not in vars(network) for network in model.children())
    assert log == whole[1] and equal_weights(model.state_dict(), whole[0])


@pytest.mark.slow
@pytest.mark.everything
def test_really_compiled_networks_make_the_same_steps() -> None:
    pair = random_domain("s", 0), random_domain("t", 1)
    logs = [train(small(), *pair, Loop(6, batch_size=4, log_every=2, compile=wanted)) for wanted in (True, False)]
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_another_order_of_memory_changes_nothing(whole, tmp_path: Path) -> None:
    """Not even when it is taken up or given up on the way."""
    pair, logs = (random_domain("s", 0), random_domain("t", 1)), []
    for wanted in (True, False):
        model = small()
        loop = Loop(STEPS, batch_size=4, log_every=2, channels_last=wanted, checkpoint=tmp_path / "c", checkpoint_every=15)
        logs.append(train(model, *pair, loop))
    for log in logs:
        for row, expected in zip(log, whole[1], strict=True):
            assert row == pytest.approx(expected, rel=1e-4)


def test_half_precision_stays_near_and_can_be_resumed(whole, tmp_path: Path) -> None:
    pair, results = (random_domain("s", 0), random_domain("t", 1)), []
    for _ in range(2):
        model = small()
        loop = Loop(STEPS, batch_size=4, log_every=2, precision="bfloat16", checkpoint=tmp_path / "c", checkpoint_every=15)
        log = train(model, *pair, loop)
        results.append((log, model.state_dict()))
    assert results[0][0] == results[1][0] and equal_weights(results[0][1], results[1][1])
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    for row, expected in zip(log, whole[1], strict=True):
        assert row != expected and row == pytest.approx(expected, rel=0.1, abs=0.1)
