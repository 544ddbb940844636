"""What a training step costs: the arithmetic counted twice, gradients of all ways, the record, and its commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import typer
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from cdlm.cli.app import bench_app
from cdlm.domains.samples import load_domain
from cdlm.methods.base import draw_noise
from cdlm.methods.cdlm import CDLM, CDLMConfig, literal_gradients
from cdlm.methods.dann import DANN
from cdlm.settings import Images
from cdlm.speed import ladder as ladder_module
from cdlm.speed import machine, race
from cdlm.speed import ways as ways_module
from cdlm.speed.arithmetic import PASSES, count_flops, layer_flops, layers_of, network_flops, step_flops
from cdlm.speed.ladder import fractions, measure_step, step_table
from cdlm.speed.machine import interleaved, keep_memory, peak_memory, time_by_group, time_group
from cdlm.speed.race import Stopwatch, measure_race
from cdlm.speed.ways import COMPILED, GROUPS, LADDER, Way, make_step, random_batch, way_gradients

ROOT = Path(__file__).resolve().parents[2]
TINY = {"widths": (2, 4), "batch_size": 2, "rounds": 1, "growth": {"batch size": (2, 4), "image size": (28,)},
        "matrix": 64}


def command(*words: object) -> Result:
    return CliRunner().invoke(bench_app, [str(word) for word in words])


# Arithmetic


@given(st.sampled_from(["conv", "deconv", "linear"]), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3),
       st.integers(0, 2), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_layer_formula_is_that_of_pytorch(kind: str, a: int, b: int, kernel: int, stride: int, padding: int, batch: int) -> None:
    if kind == "linear":
        layer, x = nn.Linear(a, b), torch.zeros(batch, a)
    else:
        layer = (nn.Conv2d if kind == "conv" else nn.ConvTranspose2d)(a, b, kernel, stride, min(padding, (kernel - 1) // 2))
        x = torch.zeros(batch, a, 6, 6)
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
    assert layer_flops(layer, x, y) == counter.get_total_flops() == count_flops(lambda: layer(x)) > 0
    assert layer_flops(nn.ReLU(), x, y) == 0


@pytest.mark.parametrize("size", [28, 32, 64])
def test_network_formula_is_that_of_pytorch(size: int) -> None:
    model = CDLM(CDLMConfig.of(width=4), Images(size=size))
    x, z = torch.zeros(2, 1, size, size), torch.zeros(2, 32)
    for name, read in {"encoder": x, "decoder": z, "classifier": x, "discriminator": z}.items():
        with FlopCounterMode(display=False) as counter:
            getattr(model, name)(read)
        assert network_flops(model, 2)[name][0] == counter.get_total_flops(), name


def test_layers_are_found_in_order_and_leave_no_hook() -> None:
    decoder, z = CDLM(CDLMConfig.of(width=4)).decoder, torch.zeros(3, 32)
    first, *_, last = layers_of(decoder, z)
    assert first.flops == 2 * 3 * 32 * 16 * 49 and first.numbers == 3 * 32 + 32 * 16 * 49 + 3 * 16 * 49
    assert last.flops == 2 * 3 * 4 * 28 * 28
    assert not [module for module in decoder.modules() if module._forward_hooks]


@pytest.mark.parametrize("written", list(PASSES))
@pytest.mark.parametrize("width, size, batch", [(2, 28, 3), (4, 64, 2)])
def test_a_step_does_the_arithmetic_that_the_passes_say(written: str, width: int, size: int, batch: int) -> None:
    counted = count_flops(make_step(Way(written), width, batch, size))
    assert counted == step_flops(CDLM(CDLMConfig.of(width=width), Images(size=size)), batch, written)


def test_bfloat16_and_the_order_of_memory_do_the_same_arithmetic() -> None:
    plain = count_flops(make_step(Way(), 4, 2))
    assert plain == count_flops(make_step(Way(precision="bfloat16", channels_last=True), 4, 2))


# Gradients


@pytest.mark.parametrize("name", [name for name, way in LADDER.items() if way.precision == "float32"])
def test_every_way_in_float32_gives_the_gradients_of_the_equations(name: str) -> None:
    torch.manual_seed(1)
    way, model, generator = LADDER[name], CDLM(CDLMConfig.of(width=4)), torch.Generator().manual_seed(2)
    eps = draw_noise(model, 5, generator)
    literal_gradients(model, random_batch(5, 28, torch.Generator().manual_seed(3)), eps, model.strength(1.0))
    wanted = {learner.name: torch.cat([p.grad.flatten() for p in learner.parameters]) for learner in model.learners()}
    if way.channels_last:
        model = model.to(memory_format=torch.channels_last)
    found = way_gradients(way, model, random_batch(5, 28, torch.Generator().manual_seed(3), way.channels_last), eps)
    assert set(found) == set(wanted) == {name for names in GROUPS for name in names}
    for learner, gradient in wanted.items():
        assert gradient.norm() > 0 and (found[learner] - gradient).norm() < 1e-4 * gradient.norm(), learner


def test_gradients_for_a_group_leave_the_others_alone_if_lean() -> None:
    model, generator = CDLM(CDLMConfig.of(width=2)), torch.Generator().manual_seed(0)
    batch, eps = random_batch(2, 28, generator), draw_noise(model, 2, generator)
    ways_module.group_gradients(model, batch, eps, 0.1, 0, lean=True)
    assert all(p.grad is None for part in (model.decoder, model.classifier) for p in part.parameters())
    assert all(p.grad is not None for part in (model.encoder, model.discriminator) for p in part.parameters())
    ways_module.group_gradients(model, batch, eps, 0.1, 1)
    assert all(p.grad is not None for p in model.classifier.parameters())


@pytest.mark.parametrize("way", [Way("magic"), Way("literal", precision="bfloat16")])
def test_unknown_ways_are_refused(way: Way) -> None:
    with pytest.raises(ValueError, match="no step is written"):
        make_step(way, 2, 2)


def test_optimizers_in_one_pass_make_the_same_updates() -> None:
    losses = []
    for one_pass in (False, True):
        torch.manual_seed(0)
        step = make_step(Way(one_pass=one_pass), 2, 4)
        losses.append([step() for _ in range(4)][-1])
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.isclose(losses[0][name], losses[1][name], rtol=1e-3) for name in losses[0])


@pytest.mark.slow
def test_compiled_networks_give_the_same_gradients() -> None:
    """Through the seam, too, which goes back through the decoder twice."""
    torch.manual_seed(1)
    model, generator = CDLM(CDLMConfig.of(width=4)), torch.Generator().manual_seed(2)
    batch, eps = random_batch(4, 28, generator), draw_noise(model, 4, generator)
    wanted = way_gradients(Way(), model, batch, eps)
    for network in (model.encoder, model.decoder, model.classifier):
        network.compile()
    found = way_gradients(Way(), model, batch, eps)
    assert all((found[name] - wanted[name]).norm() < 1e-3 * wanted[name].norm() for name in wanted)


# Measuring


def test_works_take_turns() -> None:
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    taken = interleaved(works, 2, before=lambda name: calls.append(name * 2))
    assert calls == ["aa", "a", "a", "bb", "b", "b"] * 2
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}


def test_memory_is_that_of_the_tensors() -> None:
    def work() -> None:
        first = torch.ones(2**20)                    # 4 MiB, beside a second one while it lives
        first = first + 1
        del first
    assert 8 * 2**20 <= peak_memory(work) < 9 * 2**20
    found = []
    for batch in (4, 16):
        step = make_step(Way(), 4, batch)
        step()
        found.append(peak_memory(step))
    assert 3 < found[1] / found[0] < 5.5


def test_operations_have_groups() -> None:
    named = {"aten::convolution_backward": "convolutions, backward", "aten::mkldnn_convolution": "convolutions, forward",
             "aten::native_group_norm": "normalization", "aten::leaky_relu_backward": "activations",
             "aten::addmm": "matrix products", "Optimizer.step#Adam.step": "optimizers", "aten::copy_": "copies and casts",
             "aten::sum": "rest"}
    assert {name: time_group(name) for name in named} == named
    found = time_by_group(make_step(Way(), 2, 2), 1)
    assert set(found) == {*machine.TIME_GROUPS, "rest"} and found["convolutions, backward"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_the_allocator_obeys_and_can_be_set_back() -> None:
    import platform
    there = platform.libc_ver()[0] == "glibc"
    assert keep_memory() is there and keep_memory(False) is there


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda *_: pytest.fail("called"))
    assert keep_memory() is False


@pytest.fixture(scope="module")
def facts() -> dict:
    return measure_step(**TINY)


@pytest.mark.quiet
def test_the_record(facts: dict) -> None:
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts["ladder"]) == {"2", "4"} and facts["ways"].keys() == LADDER.keys()
    for ladder in facts["ladder"].values():
        for row in ladder["ways"].values():
            assert 0 < row["min_ms"] <= row["median_ms"] and 0 < row["peak_fraction"] and row["gflop"] > 0
        assert set(ladder["peak_gflops"]) == {"float32", "bfloat16"}
    assert len(facts["growth"]) == 2 * 3 and all(row["images_per_s"] > 0 < row["memory_mib"] for row in facts["growth"])
    assert {row["precision"] for row in facts["layers"]} == {"float32", "bfloat16"} and len(facts["layers"]) == 2 * 15
    for key in ("fused_over_literal", "fastest_over_literal", "peak_fraction_float32", "peak_fraction_bfloat16", "images_per_s",
                "memory_mib", "bandwidth_gb_per_s", "flops_literal_over_fused"):
        assert facts[key] > 0, key
    assert len(facts["load"]) == 2 and facts["provenance"]["hardware"] and facts["provenance"]["threads"] >= 1


@pytest.mark.quiet
def test_the_table_holds_what_was_measured(facts: dict) -> None:
    table = step_table(facts)
    assert all(name in table for name in LADDER) and f"{facts['fused_over_literal']} times" in table
    assert table.count("images/s") == len(facts["growth"])


def test_fractions_are_of_the_right_rows() -> None:
    def rows(*times: float) -> dict:
        names = ("literal", "fused", "+ bfloat16")
        return {"ways": {name: {"min_ms": ms, "gflop": gflop, "peak_fraction": share}
                         for name, ms, gflop, share in zip(names, times, (15, 10, 10), (0.9, 0.6, 0.4))}}
    found = fractions({"16": rows(30, 20, 10), "96": rows(300, 150, 50)}, 64)
    assert found["fused_over_literal"] == 1.5 and found["fused_over_literal_by_width"] == {"16": 1.5, "96": 2}
    assert found["fastest_over_literal"] == 3 and found["fastest_over_literal_by_width"]["96"] == 6
    assert found["flops_literal_over_fused"] == 1.5 and found["images_per_s"] == 12800
    # the share of the literal step does not count
    assert (found["peak_fraction_float32"], found["peak_fraction_bfloat16"]) == (0.6, 0.4)


def test_quick_is_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    def ladders(widths, ways, batch_size, rounds, device, matrix):
        asked.update(ways=tuple(ways), rounds=rounds)
        raise InterruptedError
    monkeypatch.setattr(ladder_module, "measure_ladders", ladders)
    for quick, compiled, ways, rounds in ((True, False, ladder_module.QUICK, 2), (False, True, (*LADDER, *COMPILED), 6)):
        with pytest.raises(InterruptedError):
            measure_step(quick=quick, compiled=compiled)
        assert asked == {"ways": tuple(ways), "rounds": rounds}


@pytest.mark.quiet
def test_the_command_prints_and_keeps(facts: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdlm.cli.bench.measure_step", lambda device, quick, compiled: facts | {"quick": quick})
    out = tmp_path / "new/step.json"
    assert json.loads(command("step", "--quick", "--json", "--out", out).stdout) == facts | {"quick": True}
    assert json.loads(out.read_text()) == facts | {"quick": True}
    assert command("step").stdout.strip() == step_table(facts)


# The race


@pytest.fixture
def pair() -> tuple:
    return load_domain("mnist"), load_domain("optdigits")


def test_the_clock_stops_at_the_threshold_or_at_the_end(pair: tuple) -> None:
    split, network = pair[1].test, nn.Identity()
    def logits(right: bool):
        return lambda x: nn.functional.one_hot(split.labels[: len(x)] if right else (split.labels[: len(x)] + 1) % 10, 10).float()
    few = type(split)(split.images[:50], split.labels[:50])
    watch = Stopwatch(few, 0.9, 10, every=3)
    assert [watch.stop_after_step(network, logits(False)) for _ in range(5)] == [False] * 5
    assert watch.stop_after_step(network, logits(True)) and watch.reached and watch.done == 6 and watch.best == 1
    late = Stopwatch(few, 0.9, 4, every=3)
    assert [late.stop_after_step(network, logits(False)) for _ in range(4)] == [False, False, False, True] and not late.reached


def test_the_clock_stands_still_while_accuracy_is_measured(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(ladder_module.time, "perf_counter", lambda: now[0])
    watch = Stopwatch(pair[1].test, 1.1, 2, every=1)
    def slow(x: torch.Tensor) -> torch.Tensor:
        now[0] += 1000
        return torch.zeros(len(x), 10)
    now[0] += 20
    watch.go()
    for _ in range(2):
        now[0] += 3
        watch.stop_after_step(nn.Identity(), slow)
    assert watch.seconds == 6


def test_who_is_missing_is_said_to_be_missing(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skada", "skada.deep", "pytorch_adapt", "pytorch_adapt.hooks"):
        monkeypatch.setitem(sys.modules, name, None)
    rows = measure_race(*pair, threshold=0.99, steps=2, batch_size=4, racers=("DANN", "DANN, skada", "DANN, pytorch-adapt"))
    assert rows["DANN"]["installed"] and not rows["DANN"]["reached"] and rows["DANN"]["steps"] == 2
    for name in ("DANN, skada", "DANN, pytorch-adapt"):
        assert rows[name]["installed"] is False and "not installed" in race.race_line(rows[name])
    assert "NOT reached in" in race.race_line(rows["DANN"])


@pytest.mark.parametrize("name, package", [("DANN, skada", "skada.deep"), ("DANN, pytorch-adapt", "pytorch_adapt.hooks")])
def test_who_is_there_trains_our_networks(pair: tuple, name: str, package: str) -> None:
    pytest.importorskip(package, exc_type=ImportError)
    torch.manual_seed(0)
    model, watch = DANN(), Stopwatch(pair[1].test, 1.1, 3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    race.RACERS[name][1](model, *pair, watch, 4)
    assert watch.done == 3 and watch.seconds > 0
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters()))


@pytest.mark.parametrize("words, message", [
    (("step", "--device", "tpu"), "device 'tpu' cannot be used here"),
    (("accuracy", "mnist", "mars"), "unknown domain 'mars'"),
    (("accuracy", "mnist", "mnistm"), "between gray domains"),
])
def test_wrong_words_get_one_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = command(*words, "--out", tmp_path / "x.json")
    assert done.exit_code == 1 and done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_end_with_status_2() -> None:
    for words in (("accuracy", "--threshold", "2"), ("accuracy", "--steps", "0"), ("step", "--fast")):
        assert command(*words).exit_code == 2


def test_the_race_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"DANN": {"installed": True, "reached": True, "seconds": 1.5, "steps": 100, "best_accuracy": 0.8, "ms_per_step": 15.0},
            "DANN, skada": {"installed": False, "why": "not installed (no module)"}}
    asked = []
    monkeypatch.setattr("cdlm.cli.bench.measure_race", lambda *words: asked.append(words[2:]) or rows)
    done = command("accuracy", "mnist", "optdigits", "--threshold", 0.5, "--steps", 9, "--seed", 3, "--out", tmp_path / "race.json")
    assert asked == [(0.5, 9, 64, 3)] and "labels stop the clock, nothing else" in done.stdout
    assert "reached after     1.5 s" in done.stdout and "not installed (no module)" in done.stdout
    facts = json.loads((tmp_path / "race.json").read_text())
    assert facts["racers"] == rows and facts["threshold"] == 0.5 and len(facts["load"]) == 2


# The records of the book


@pytest.mark.quiet
def test_records_hold_what_the_command_writes(facts: dict) -> None:
    stored = json.loads((ROOT / "book/results/measurements/step_speed.json").read_text())
    assert facts.keys() <= stored.keys() and set(stored["ladder"]) == {"16", "96"} and not stored["quick"]
    for width, ladder in stored["ladder"].items():
        for name, row in ladder["ways"].items():
            flops = step_flops(CDLM(CDLMConfig.of(width=int(width))), stored["batch_size"], Way(**stored["ways"][name]).written)
            assert row["gflop"] == round(flops / 1e9, 3), name


def test_annotations_of_the_commands_resolve() -> None:
    assert isinstance(typer.main.get_command(bench_app), object)
