"""Every command with every kind of wrong word: exit status, and one line on stderr; never a traceback, never a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cdlm.cli.app import BENCH_COMMANDS, COMMANDS, DATA_COMMANDS, app, bench_app, data_app
from cdlm.cli.experiments import MEASURED, measurements

APPS: dict[str, typer.Typer] = {"": app, "data": data_app, "bench": bench_app}
HUGE = "9" * 30
NUMBERS = ["-1", "nan", "inf", "", "x", "1.5", "٣x", "9" * 5000]
NAMES = ["", "mars", "a\nb", "\x1b[31m", "\udcff", "-", "x" * 300, "/dev/null", "FILE", "NOWHERE"]
FOLDERS = ["NOWHERE", "FILE", "EMPTY", "/dev/null", "", "\udcff", "FILE/below", "x" * 300, "\x1b[31m"]
OUTS = ["FOLDER", "FILE/x.json", "/dev/null", "", "x" * 300]
SETTINGS = [
    "",
    "=",
    "=1",
    "width",
    "width=",
    "width=0",
    "width=-1",
    "width=nan",
    "width=1e999",
    f"width={HUGE}",
    "width=[[[",
    "width=null",
    "width=" + "[" * 9999,
    "width=" + "9" * 5000,
    "lr=-1",
    "lr=NaN",
    "lr=" + "9" * 400,
    "magic=1",
    "\udcff=1",
    "a\nb=1",
    "channels=3",
    "width={}",
]
TRAIN = [
    "mnist",
    "optdigits",
    "--method",
    "source",
    "--steps",
    "1",
    "--batch-size",
    "2",
    "--set",
    "width=2",
    "--device",
    "cpu",
    "--size",
    "sample",
    "--out",
    "OUT",
]
SPEC = {"--seed": [*NUMBERS, HUGE], "--steps": ["0", *NUMBERS, HUGE], "--batch-size": ["0", "1", *NUMBERS, HUGE]}
DEVICES = ["", "tpu", "cuda:99", "cpu:7", "\udcff", "cpu:", "mps:x"]


@dataclass(frozen=True)
class Case:
    """A command line that works or would, and what is to be put in the place of one of its words, or of an option, one by one."""

    words: list[str]
    places: dict[int, list[str]]
    options: dict[str, list[str]]


CASES = {
    "train": Case(
        TRAIN,
        {0: NAMES, 1: NAMES},
        SPEC
        | {
            "--set": SETTINGS,
            "--method": NAMES,
            "--size": ["", "huge", "full,full,full", "\udcff"],
            "--device": DEVICES,
            "--precision": ["", "int4", "\udcff"],
            "--augment": ["", "x", "degrees=", "flip=2", "scale=1", "shift=NaN", f"contrast={HUGE}", "a=1"],
            "--strong": ["", "flip=often", "degrees=-1"],
            "--log-every": ["0", *NUMBERS],
            "--checkpoint-every": NUMBERS,
            "--out": ["FOLDER", "FILE", "FILE/run", "/dev/null", "/dev/null/run", "", "x" * 300],
        },
    ),
    "evaluate": Case(["NOWHERE"], {0: FOLDERS}, {}),
    "record": Case(["OUT", "NOWHERE"], {0: OUTS, 1: FOLDERS}, {}),
    "measure": Case(["moments", "NOWHERE", "--out", "OUT"], {0: NAMES, 1: FOLDERS}, {"--out": OUTS}),
    "predict": Case(
        ["NOWHERE", "mnist", "--out", "OUT"],
        {0: FOLDERS, 1: NAMES},
        {"--out": OUTS, "--path": NAMES, "--top": ["0", *NUMBERS, HUGE], "--seed": [*NUMBERS, HUGE], "--fit": NAMES,
         "--ground": ["256", *NUMBERS], "--source": NAMES, "--device": DEVICES},
    ),
    "translate": Case(
        ["NOWHERE", "mnist", "--out", "OUT"],
        {0: FOLDERS, 1: NAMES},
        {"--out": OUTS, "--samples": [*NUMBERS, HUGE], "--seed": [*NUMBERS, HUGE], "--fit": NAMES, "--source": NAMES},
    ),
    "export": Case(
        ["NOWHERE", "--out", "OUT", "--format", "torch-export"],
        {0: FOLDERS},
        {"--out": OUTS, "--format": NAMES, "--path": NAMES, "--source": NAMES},
    ),
    "doctor": Case([], {}, {"--magic": ["1"]}),
    "ledger": Case([], {}, {"--magic": ["1"]}),
    "reproduce": Case(
        ["table7", "--profile", "smoke", "--list"],
        {0: NAMES},
        {
            "--seeds": ["", "x", "3-1", "-1", "1-", "1-30000000000", "nan", "1,,2", "9" * 5000, "0-" + HUGE, "\udcff"],
            "--profile": NAMES,
            "--workers": NUMBERS,
            "--job": [HUGE, *NUMBERS],
        },
    ),
    "results": Case(["--results", "EMPTY"], {}, {"--results": ["NOWHERE", "FILE", "/dev/null", "x" * 300], "--selection": NAMES}),
    "report": Case(["NOWHERE"], {0: FOLDERS}, {"--out": OUTS}),
    "data list": Case([], {}, {"--root": ["NOWHERE", "FILE", "/dev/null", "x" * 300]}),
    "data info": Case(["mnist"], {0: NAMES}, {"--root": ["NOWHERE", "FILE", "/dev/null"]}),
    "data fetch": Case(
        ["mnistm", "--offline"],
        {0: NAMES},
        {
            "--set": [
                "",
                "=",
                "=1",
                "seed",
                "seed=x",
                "seed=-1",
                f"seed={HUGE}",
                "seed=1.5",
                "size=64",
                "root=.",
                "name=x",
                "download=1",
                "magic=1",
                "background=lava",
                "channels=2",
                "channels=x",
                "background=[",
                "\udcff=1",
            ],
            "--root": ["NOWHERE", "FILE", "/dev/null"],
        },
    ),
    "data shift": Case(
        ["mnist-optdigits", "--out", "OUT", "--size", "sample"],
        {0: NAMES},
        {"--out": OUTS, "--seeds": ["0", *NUMBERS, HUGE], "--size": ["", "huge"], "--root": ["NOWHERE", "FILE"]},
    ),
    "bench data": Case([], {}, {"--device": DEVICES}),
    "bench step": Case(["--quick"], {}, {"--device": DEVICES, "--out": OUTS, "--size": ["27", "128", *NUMBERS]}),
    "bench predict": Case([], {}, {"--device": DEVICES, "--method": NAMES}),
    "bench accuracy": Case([], {0: NAMES[1:]}, SPEC | {"--threshold": ["-1", "2", "", "x", "inf"], "--out": OUTS}),
}


def lines_of(case: Case) -> list[list[str]]:
    """The words of a case, once with each wrong word; an option is given a last time, and the last one counts."""
    found = [[*case.words[:i], word, *case.words[i + 1 :]] for i, wrong in case.places.items() for word in wrong]
    return found + [[*case.words, option, word] for option, wrong in case.options.items() for word in wrong]


def test_what_is_measured_is_measured_by_the_function_of_its_name() -> None:
    found = measurements()
    assert tuple(found) == MEASURED
    assert {name: function.__name__ for name, function in found.items()} == {name: f"measure_{name}" for name in MEASURED}


def test_no_command_is_forgotten() -> None:
    assert set(CASES) == {*COMMANDS, *(f"data {name}" for name in DATA_COMMANDS), *(f"bench {name}" for name in BENCH_COMMANDS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_word_gets_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDLM_OFFLINE", "1")
    (tmp_path / "file").write_text("kept")
    for folder in ("empty", "folder"):
        (tmp_path / folder).mkdir()
    (tmp_path / "folder/x").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    room, _, command = name.rpartition(" ")
    wrong = []
    for words in lines_of(CASES[name]):
        words = [
            word.replace("NOWHERE", "nowhere")
            .replace("FILE", "file")
            .replace("EMPTY", "empty")
            .replace("FOLDER", "folder")
            .replace("OUT", "out.json")
            for word in words
        ]
        if not words:
            continue
        done = CliRunner().invoke(APPS[room], [command, *words])
        usage = done.exit_code == 2 and "Usage: " in done.stderr
        one = (
            done.exit_code == 1
            and done.stderr.startswith("error: ")
            and done.stderr.count("\n") == 1
            and done.stderr[:-1].isprintable()
        )
        if not isinstance(done.exception, SystemExit) or not (usage or one):
            wrong.append(f"{words} [{done.exit_code}] {done.exception!r} {done.stderr[:300]!r}")
        if left := set(tmp_path.rglob("*")) - set(before):
            wrong.append(f"{words} leaves {left}")
            for path in sorted(left, reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    assert not wrong, "\n".join(wrong)
    assert (tmp_path / "file").read_text() == "kept" and Path("/dev/null").is_char_device() and os.listdir("folder") == ["x"]
