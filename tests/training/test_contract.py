"""What a method says is enough: rounds, own labels, balanced batches; and nobody asks a method what it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from long_run import random_domain
from zoo import InTurns, Linear, OwnLabels, Watching

from cdlm.data.batches import by_class, draw_numbers, draw_pair
from cdlm.data.domain import Split
from cdlm.methods.base import Method, Now
from cdlm.methods.registry import METHODS
from cdlm.settings import flat
from cdlm.training.engine import Trainer
from cdlm.training.loop import MAY_MOVE, Feed, Loop, own_labels, run_identity, train
from cdlm.training.team import Team

PAIR = random_domain("s", 0), random_domain("t", 1, 30)
SMALL = {"width": 2, "latent": 2, "hidden": 4}
TRANSLATE = {"unit", "ecdrd", "datl", "stargan"}        # without codes that another image modulates, and so with one path


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(name: str) -> Method:
    kind, config = METHODS[name]
    torch.manual_seed(0)
    return kind(config.of(**{key: SMALL[key] for key in SMALL if key in flat(config())})).eval()


# What all methods of the book say

@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_what_the_experiments_ask(name: str) -> None:
    method, x = built(name), torch.rand(3, 1, 28, 28) * 2 - 1
    assert method.logits(x).shape == method.read(x).shape == (3, 10)
    assert method.features(x).shape[0] == 3 and method.features(x).numel() > 3
    assert method.draws == (name in ("cdlm", "improved"))
    if method.draws:
        assert method.translate(x).shape == x.shape
        assert torch.equal(method.logits(x), method.read(method.translate(x)))
    elif name in TRANSLATE:
        assert torch.equal(method.logits(x), method.read(x))
        assert method.translate(x).shape == x.shape
    else:
        assert torch.equal(method.logits(x), method.read(x))
        with pytest.raises(ValueError, match=f"{type(method).__name__} draws no images"):
            method.translate(x)


def test_who_needs_a_second_view_says_so_by_its_settings() -> None:
    asked = {name: kind.needs_second_view(config()) for name, (kind, config) in METHODS.items()}
    assert {name for name in asked if asked[name]} == {"improved", "adamatch"}
    plain, config = METHODS["plain"]
    assert plain.needs_second_view(config.of(self_training=0.5)) and not plain.needs_second_view(config.of(self_training=0.0))


# Rounds

def test_each_round_is_told_its_name_and_updates_its_learner_alone() -> None:
    """By hand: a first by -b, then b twice by -b, from a = b = 1 at rate 0.1."""
    method, batch = InTurns(), draw_pair(*(domain.train for domain in PAIR), 2, generator())
    trainer = Trainer(method, steps=2)
    losses = trainer.step(batch, generator())
    assert method.told == [Now(0.0, "first"), Now(0.0, "second"), Now(0.0, "second")]
    assert (method.a.item(), method.b.item()) == (pytest.approx(0.9), pytest.approx(0.81))
    assert losses == {"both": 1.0, "first": 1.0, "second": pytest.approx(0.5 + 0.9)}      # the first round that names it
    trainer.step(batch, generator())
    assert method.told[3] == Now(0.5, "first")


# Own labels

def test_labels_are_asked_for_in_test_mode_when_they_are_due() -> None:
    """Thirty images in batches of four are an epoch of eight steps."""
    for every, times in (("epoch", 3), (5, 4), (1, 17)):
        method = OwnLabels(label_every=every)
        train(method, *PAIR, Loop(17, batch_size=4))
        assert method.asked == [False] * times


def test_a_batch_carries_the_labels_of_its_own_images() -> None:
    images = tuple(domain.train for domain in PAIR)
    method = OwnLabels()
    feed = Feed(method, images, 16)
    feed.refresh(0, Team())
    assert torch.equal(feed.own, own_labels(method, images[1].images)) and method.training
    batch = feed.draw(generator())
    labels = method.relabel(((batch.x_t + 1) * 127.5).round().to(torch.uint8))
    assert torch.equal(batch.y_t_own, labels)
    assert (labels >= 0).all(), "a class-balanced batch takes no image without a label"
    feed.take(torch.full_like(feed.own, -1))
    assert (feed.draw(generator()).y_t_own == -1).all()


@pytest.mark.parametrize("wrong", [torch.zeros(29, dtype=torch.int64), torch.zeros(30), torch.zeros(30, 10)])
def test_labels_of_another_kind_are_refused(wrong: torch.Tensor) -> None:
    class Wrong(OwnLabels):
        def relabel(self, target_images: torch.Tensor) -> torch.Tensor:
            return wrong
    with pytest.raises(ValueError, match="Wrong labels 30 images by .* one int64 each is wanted"):
        train(Wrong(), *PAIR, Loop(1, batch_size=4))


def test_target_labels_are_never_handed_to_a_method() -> None:
    """Neither by a balanced batch nor beside own labels: other target labels change nothing."""
    weights, (source, target) = [], PAIR
    for labels in (target.train.labels, torch.full_like(target.train.labels, 3)):
        torch.manual_seed(0)
        method = OwnLabels()
        train(method, source, replace(target, train=Split(target.train.images, labels)), Loop(9, batch_size=4))
        weights.append(method.layer.weight)
    assert torch.equal(*weights)


# Balanced batches

@given(labels=st.lists(st.integers(-1, 4), min_size=1, max_size=40), size=st.integers(1, 23), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_every_class_is_there_as_often_as_any_other(labels: list[int], size: int, seed: int) -> None:
    labels = torch.tensor(labels)
    places = by_class(labels)
    if not (labels >= 0).any():
        assert places is None
        return
    split = Split(torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8), labels)
    drawn = labels[draw_numbers(split, size, generator(seed), places)]
    counts = [int((drawn == label).sum()) for label in labels[labels >= 0].unique()]
    assert sum(counts) == size and max(counts) - min(counts) <= 1


def test_within_a_class_all_images_are_alike_and_so_are_the_classes_that_get_one_more() -> None:
    labels, g = torch.tensor([1] * 3 + [0] * 5), generator()
    split = Split(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), labels)
    drawn = torch.cat([draw_numbers(split, 3, g, by_class(labels)) for _ in range(4000)])
    shares = drawn.bincount(minlength=8) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([1 / 6] * 3 + [1 / 10] * 5), rtol=0, atol=0.012)


def test_a_method_gets_the_batches_it_asks_for() -> None:
    plain, balanced = Watching(), Watching("class-balanced")
    source, target = PAIR
    few = replace(source, train=Split(source.train.images, torch.tensor([0] * 36 + [5] * 4)))
    for method in (plain, balanced):
        train(method, few, target, Loop(20, batch_size=8))
    assert all((batch.y_s == 5).sum() == 4 for batch in balanced.seen)
    assert torch.stack([(batch.y_s == 5).float().mean() for batch in plain.seen]).mean() < 0.25
    g = generator()
    for batch in plain.seen:
        expected = draw_pair(few.train, target.train, 8, g)
        assert torch.equal(batch.x_s, expected.x_s) and torch.equal(batch.x_t, expected.x_t)
        assert batch.y_t_own is None
        torch.randn(0, 8, 0, generator=g)
    with pytest.raises(ValueError, match="sampler is .stratified.; it must be uniform or class-balanced"):
        train(Watching("stratified"), *PAIR, Loop(1))


# What a training follows from

def test_a_run_is_known_by_all_of_its_loop_that_changes_a_result() -> None:
    loop, method = Loop(3), Linear()
    known = run_identity(method, *PAIR, loop)
    assert set(vars(loop)) == set(MAY_MOVE) | {name for name in known if name in vars(loop)}
    moved = replace(loop, device="meta", channels_last=True, compile=True, checkpoint=Path("c"), checkpoint_every=1)
    assert run_identity(method, *PAIR, moved) == known
    for change in ({"steps": 4}, {"seed": 1}, {"batch_size": 2}, {"log_every": 1}, {"precision": "bfloat16"}):
        assert run_identity(method, *PAIR, replace(loop, **change)) != known


# Nobody asks a method what it is

KINDS = {"str", "int", "float", "bool", "dict", "list", "tuple", "Mapping", "Tensor",               # plain values
         "Conv2d", "ConvTranspose2d", "Linear", "ChunkedBatchNorm", "DomainBatchNorm", "PCAFeatures",   # layers
         "KeyboardInterrupt", "Interrupted", "ImportFrom", "Equation", "Pieces", "Entry", "NotFoundError", "NotImplementedError",
         "NotADirectoryError", "IsADirectoryError", "FileExistsError",
         "PathLike", "Domain", "Dataset", "Integral", "generic",                     # what people give to an estimator
         "ByteTranslator",                                                           # one of two kinds of exported network
         "kind"}                                                                     # of the content that read_json is asked for
OF_OTHERS = {("data/pictures.py", "n_frames"), ("data/search.py", "reason"), ("theory/ledger.py", "equation"),
             ("theory/ledger.py", "part"), ("speed/machine.py", "getloadavg"), ("use/images.py", "strerror"),
             ("use/pages.py", "__html__")}


def questions(path: Path) -> list[str]:
    """Where a module asks what something is, or whether it has something, other than the few that may be asked."""
    found = []
    if path.name == "closure.py":                                                   # asks nodes of syntax trees, and nobody else
        return found
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if name == "isinstance":
            kinds = {part.split(".")[-1].strip() for part in re.split(r"[(),|]", ast.unparse(node.args[1])) if part.strip()}
            found += [ast.unparse(node)] if kinds - KINDS else []
        if name == "hasattr" or name == "getattr" and len(node.args) == 3:
            asked = ast.unparse(node.args[1]).strip("'")
            found += [ast.unparse(node)] if (path.relative_to(ROOT / "cdlm").as_posix(), asked) not in OF_OTHERS else []
        if name == "getattr" and ast.unparse(node.args[0]).split(".")[-1] in ("method", "config"):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "cdlm").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nobody_asks_what_a_method_is_or_has(path: Path) -> None:
    assert questions(path) == []


def test_such_a_question_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_contract.ROOT", tmp_path)
    path = tmp_path / "cdlm/new.py"
    path.parent.mkdir()
    path.write_text("isinstance(m, CDLM)\nisinstance(x, (dict, DANN))\ngetattr(c, 'a', 0)\nhasattr(m, 'b')\n"
                    "getattr(self.config, 'd')\nisinstance(x, dict)\n")
    assert len(questions(path)) == 5


# What is loaded

WATCHED = """
import sys, traceback
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("sympy", "trimesh", "matplotlib", "seaborn", "skada"):
            stack = [frame.filename for frame in traceback.extract_stack() if "importlib" not in frame.filename]
            print("LOADED", name, "torch" if "/torch/" in stack[-2].replace(chr(92), "/") else stack[-2])
sys.meta_path.insert(0, Finder())
"""


def loaded(code: str) -> set[tuple[str, str]]:
    """Which of the large packages a fresh process loads, and for whom."""
    done = subprocess.run([sys.executable, "-c", WATCHED + code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {tuple(line.split(" ")[1:]) for line in done.stdout.splitlines() if line.startswith("LOADED ")}


def test_methods_load_no_symbolic_algebra_and_no_meshes() -> None:
    assert loaded("import cdlm.methods.registry, cdlm.training.loop, cdlm.evaluation.readouts") == set()


@pytest.mark.slow
def test_a_training_by_the_command_line_loads_them_neither(tmp_path: Path) -> None:
    """But for what torch itself loads with its first optimizer, which is none of ours."""
    words = ["train", "mnist", "optdigits", "--size", "sample", "--method", "mcd", "--steps", "1", "--batch-size", "4",
             "--set", "width=2", "--device", "cpu", "--out", str(tmp_path / "run")]
    found = loaded(f"sys.argv = ['cdlm', *{words!r}]\nfrom cdlm.cli.app import main\nmain()\n")
    assert found <= {("sympy", "torch")}
    assert (tmp_path / "run/metrics.json").exists()
