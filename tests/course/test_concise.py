"""The model in one file computes what the package does: the same losses, and the same networks after some updates."""

from __future__ import annotations

import ast
import sys

import torch
from conftest import ROOT

from cdlm.domains.samples import load_domain
from cdlm.methods.cdlm import CDLM
from cdlm.training.loop import Loop, train

sys.path.insert(0, str(ROOT / "book/course"))

import concise_cdlm  # noqa: E402

SOURCE, TARGET = load_domain("mnist"), load_domain("optdigits")


def test_the_same_seed_gives_the_same_losses_and_the_same_networks() -> None:
    torch.manual_seed(5)
    model = CDLM()
    rows = train(model, SOURCE, TARGET, Loop(steps=4, batch_size=16, seed=5, log_every=1))
    parts, log = concise_cdlm.train(SOURCE.train, TARGET.train, steps=4, seed=5, batch_size=16)
    assert len(rows) == len(log) == 4
    for theirs, ours in zip(rows, log):
        for name, value in ours.items():
            assert abs(theirs[name] - value) <= 2e-4 * max(1, abs(value)), (name, theirs[name], value)
    whole = (model.encoder, model.decoder, model.classifier, model.discriminator)
    for mine, package in zip(parts, whole):
        for a, b in zip(mine.parameters(), package.parameters()):
            assert torch.allclose(a, b, atol=2e-4)


def test_a_change_of_any_weight_would_be_seen() -> None:
    """The comparison is not blind: a wrong strength of the reversal leads elsewhere."""
    kept = concise_cdlm.train(SOURCE.train, TARGET.train, steps=2, seed=1, batch_size=16)[0]
    strength, concise_cdlm.STRENGTH = concise_cdlm.STRENGTH, -5.0
    try:
        other = concise_cdlm.train(SOURCE.train, TARGET.train, steps=2, seed=1, batch_size=16)[0]
    finally:
        concise_cdlm.STRENGTH = strength
    assert any(not torch.allclose(a, b, atol=2e-4) for a, b in zip(kept[0].parameters(), other[0].parameters()))


def test_it_is_short() -> None:
    """About sixty lines, without blank ones, docstrings and the part that runs it."""
    text = (ROOT / "book/course/concise_cdlm.py").read_text(encoding="utf-8").partition("if __name__")[0]
    tree = ast.parse(text)
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = [k for k, line in enumerate(text.splitlines(), 1) if line.strip() and k not in skipped]
    assert len(lines) <= 60
