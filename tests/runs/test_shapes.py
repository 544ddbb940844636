"""Files that others have written, or damaged: each reading ends with the right value or with one line."""

from __future__ import annotations

import json
import math
import os
from ast import literal_eval
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdlm.data.archives import DataError
from cdlm.experiments.plan import Job, Variant, job
from cdlm.experiments.record import is_valid, record_of
from cdlm.experiments.results import cell_values, read_runs
from cdlm.experiments.tables import accuracy_curves, path_accuracies, rule_gains
from cdlm.files import RunError, fault_of, finite, json_text, need_place, parse_json, read_json, write_json
from cdlm.measurements.shift import SHIFT_PAIRS, unmeasured
from cdlm.runs.folder import load_spec
from cdlm.runs.record import metric_values, read_record
from cdlm.runs.run import joined_record
from cdlm.runs.spec import RunSpec
from cdlm.shapes import AnyRecord, LedgerFile, Metrics, RunConfig, RunRecord, Shifts
from cdlm.theory.ledger import LEDGER, LedgerError, equations, judge, read_ledger
from cdlm.training.checkpoints import CheckpointError, check_note

RESULTS = Path(__file__).resolve().parents[2] / "book/results"
RUN = RESULTS / "runs/mnist-usps_faithful_s1.json"
FAITHFUL = Variant("faithful", "cdlm", bare=True)


# The door


@pytest.mark.parametrize("text, words", [
    (b"", "not JSON from line 1 on"), (b"{", "not JSON from line 1 on"), (b'{\n"a": 1,\n}', "not JSON from line 3 on"),
    (b'{"a": NaN}', "a number is NaN"), (b"[-Infinity]", "a number is -Infinity"), (b"[1e999]", "a number is 1e999"),
    (b"[" + b"9" * 5000 + b"]", "a number is " + "9" * 25), (b"[" + b"9" * 400 + b"]", "a number is " + "9" * 25),
    (b'{"a": 1, "a": 2}', "'a' stands twice"), (b'{"b": {"a": 1, "\\u0061": 2}}', "'a' stands twice"),
    (b'{"' + b"a" * 999 + b'": 1, "' + b"a" * 999 + b'": 1}', f"'{'a' * 60}' stands twice"),
    (b"[" * 100_000, "nested too deeply"), (b"[" * 60 + b"]" * 60, "nested too deeply"),
    (b'{"a":' * 60 + b"1" + b"}" * 60, "nested too deeply"), (b'{"a": "\xff"}', "not UTF-8"), (b"\xff\xfe{\x00}\x00", "not UTF-8"),
    (b"\x00", "not JSON from line 1 on"), (b"{'a': 1}", "not JSON from line 1 on"), (b"1 2", "not JSON from line 1 on"),
])  # fmt: skip
def test_what_is_no_json_is_refused_in_a_few_words(text: bytes, words: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_json(text)
    assert str(error.value) == words


@pytest.mark.parametrize("text, value", [
    (b'\xef\xbb\xbf{"a": 1}', {"a": 1}), (b"9007199254740993", 2**53 + 1), (b"-0.1e-3", -1e-4), (b"0", 0),
    (b"18446744073709551615", 2**64 - 1),
    (b'"\\ud800"', "\ud800"), ("[1.0]", [1.0]), (b"1E5", 1e5), (b"[" * 39 + b"]" * 39, literal_eval("[" * 39 + "]" * 39)),
])  # fmt: skip
def test_what_is_json_has_its_value(text: bytes | str, value: object) -> None:
    found = parse_json(text)
    assert found == value and type(found) is type(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, derandomize=True)
@given(json_values)
def test_there_and_back(value: object) -> None:
    found = parse_json(json_text(value))
    assert found == value and repr(found) == repr(value)


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=30) | st.text('{}[]",:0123456789eE+-.ntfNI \\u\n', max_size=40))
def test_any_text_is_json_or_refused_in_a_few_words(text: bytes | str) -> None:
    try:
        parse_json(text)
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 100


def test_a_number_that_is_none_is_written_as_null(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [math.nan, 1.5, (math.inf, {"b": -math.inf})]})
    assert "NaN" not in (tmp_path / "x.json").read_text() and read_json(tmp_path / "x.json") == {
        "a": [None, 1.5, [None, {"b": None}]]
    }
    assert finite(1) == 1 and finite("nan") == "nan"


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(RunError, match=f"^cannot read {place}: it is no plain file$"):
            read_json(place)
        with pytest.raises(RunError, match=f"^{place} exists, and is no older record of the same; name another file"):
            need_place(place, lambda old: True)


def test_a_place_is_refused_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    need_place(tmp_path / "new/er/x.json", lambda old: False)
    with pytest.raises(RunError, match=f"^cannot write to {tmp_path / 'file'}: (Not a directory|File exists)"):
        need_place(tmp_path / "file/x.json", lambda old: True)
    with pytest.raises(RunError, match=f"^cannot write {tmp_path / 'file/x.json'}: (Not a directory|File exists)"):
        write_json(tmp_path / "file/x.json", {})
    assert list((tmp_path / "new/er").iterdir()) == [] and (tmp_path / "file").read_text() == "kept"


def test_a_fault_says_where_it_is() -> None:
    whole = read_json(RUN)
    assert fault_of(whole, RunRecord) == "" == fault_of(whole, AnyRecord)
    for change, words in (
        ({"source_accuracy": True}, "'source_accuracy': input should be a valid number"),
        ({"source_accuracy": 7}, "'source_accuracy': input should be less than or equal to 1"),
        ({"log": [{"step": 1, "task": None}]}, "'log.0.task': input should be a valid number"),
        ({"selected": {"last": 3}}, "'selected.last': input should be a valid dictionary or instance of Chosen"),
    ):
        assert fault_of(whole | change, RunRecord) == words
    assert fault_of([], dict) == "not an object" and fault_of({}, list) == "not a list"


# Every file of ours, damaged


SPEC = RunSpec("cdlm", "mnist", "optdigits")
WORK = Job(RUN.stem, job(FAITHFUL, "mnist-usps", 1).spec)


def as_run(folder: Path, config: object, metrics: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps(metrics))


def run_parts() -> tuple[dict, dict]:
    """Config and metrics of a stored run, as a record of it has them."""
    record = read_record("mnist-optdigits_cdlm", RESULTS)
    return asdict(SPEC), {k: v for k, v in record["runs"][0].items() if k != "seed"}


def queue_parts() -> tuple[dict, dict]:
    """The same of a run of the queue."""
    record = read_json(RUN)
    return record["spec"], {k: v for k, v in record.items() if k not in ("spec", "config", "selected")}


def read_config(content: object, folder: Path) -> None:
    as_run(folder, content, run_parts()[1])
    load_spec(folder)
    joined_record([folder])


def read_metrics(content: object, folder: Path) -> None:
    as_run(folder, run_parts()[0], content)
    assert joined_record([folder])["runs"][0]["log"] == content["log"]


def read_queue_metrics(content: object, folder: Path) -> None:
    as_run(folder, queue_parts()[0], content)
    record_of(folder)


def read_one(content: object, folder: Path) -> None:
    (folder / RUN.name).write_text(json.dumps(content))
    is_valid(folder / RUN.name, WORK.spec)
    runs = read_runs(FAITHFUL, "mnist-usps", folder)
    for selection in ("last", "oracle", "entropy"):
        cell_values(runs, selection)
    cell_values(runs, path="h")
    accuracy_curves({1: runs[0]})


def read_joined(content: object, folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps(content))
    metric_values(read_record("x", folder))


def read_shifts(content: object, folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps(content))
    read_record("x", folder)
    unmeasured(read_json(folder / "x.json", Shifts), SHIFT_PAIRS[:1])


def read_outcomes(content: object, folder: Path) -> None:
    (folder / "ledger.json").write_text(json.dumps(content))
    recorded, eq = read_ledger(folder / "ledger.json"), equations()[1]
    outcome = recorded["equations"].get("1", {})
    judge(eq, outcome | {"fingerprints": {}} if "fingerprints" not in outcome else outcome, SHELF())


@cache
def SHELF() -> object:
    from cdlm.theory.ledger import library

    return library()


def read_note(content: object, folder: Path) -> None:
    check_note(folder / "checkpoint.safetensors", content, None)
    rows = content["log"]
    assert all(row["step"] - 1 == row["step"] - 1.0 and sum(row.values()) < math.inf for row in rows)


NOTE = {
    "run": {},
    "step": 3,
    "log": [{"step": 1, "task": 0.5}, {"step": 3, "task": 1}],
    "seconds": 1.0,
    "torch": "2",
    "state": {},
    "format": 1,
    "makers": [],
}
FILES: dict[str, tuple[Callable[[object, Path], None], Callable[[], object]]] = {
    "config": (read_config, lambda: run_parts()[0]),
    "metrics": (read_metrics, lambda: run_parts()[1]),
    "metrics of the queue": (read_queue_metrics, lambda: queue_parts()[1]),
    "record of a run": (read_one, lambda: read_json(RUN)),
    "record of several": (read_joined, lambda: read_json(RESULTS / "mnist-optdigits_cdlm.json")),
    "shifts": (read_shifts, lambda: read_json(RESULTS / "measurements/domain_shift.json")),
    "ledger": (read_outcomes, lambda: read_json(LEDGER)),
    "header of a checkpoint": (read_note, lambda: NOTE),
}
whole = cache(lambda name: FILES[name][1]())
FOREIGN = [
    {},
    [],
    None,
    3,
    "x",
    True,
    {"a": 1},
    {"spec": {}},
    {"runs": []},
    {"runs": [{}]},
    {"runs": {}},
    {"spec": 3, "runs": [3]},
    {"measured": None},
    {"pairs": [None]},
    {"provenance": 1, "equations": {"1": 3}},
    {"equations": {}},
    {"snapshots": [{}]},
]


def one_line_or_a_value(name: str, content: object, folder: Path) -> bool:
    """Read; whether it was refused, in a line."""
    try:
        FILES[name][0](content, folder)
    except (RunError, LedgerError, DataError, CheckpointError) as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return True
    return False


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_we_wrote_it_is_read(name: str, tmp_path: Path) -> None:
    assert not one_line_or_a_value(name, whole(name), tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_what_others_wrote_is_refused(name: str, tmp_path: Path) -> None:
    for content in FOREIGN:
        assert one_line_or_a_value(name, content, tmp_path), content


def places_of(content: object, place: tuple = ()) -> list[tuple]:
    """All places in nested JSON; of a list the first two parts."""
    parts = content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    return [place, *(found for key, part in parts for found in places_of(part, (*place, key)))]


def damaged(content: object, place: tuple, value: object) -> object:
    """A copy in which another value stands at a place; ``...`` for none at all."""
    if not place:
        return value if value is not ... else {}
    content = deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


places = cache(lambda name: sorted(places_of(whole(name)), key=lambda place: (len(place), str(place))))
WRONG = st.one_of(
    st.sampled_from([None, ..., [], {}, "", "x", True, -1, 0, 7, 1e308, 10**24, -0.5, [None], {"a": None}, "\ud800\n"]), json_values
)


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, tuple, object]:
    name = draw(st.sampled_from(sorted(FILES)))
    return name, draw(st.sampled_from(places(name))), draw(WRONG)


@settings(max_examples=120, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(damages())
def test_a_damaged_file_is_read_or_refused_in_a_line(tmp_path: Path, case: tuple[str, tuple, object]) -> None:
    name, place, value = case
    one_line_or_a_value(name, damaged(whole(name), place, value), tmp_path)


@pytest.mark.slow
@settings(max_examples=800, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(damages())
def test_a_damaged_file_is_read_or_refused_in_a_line_at_length(tmp_path: Path, case: tuple[str, tuple, object]) -> None:
    name, place, value = case
    one_line_or_a_value(name, damaged(whole(name), place, value), tmp_path)


def test_what_must_be_there_is_missed(tmp_path: Path) -> None:
    """Each name that a shape demands, taken away or null."""
    for name, shape in (
        ("config", RunConfig),
        ("metrics", Metrics),
        ("record of a run", RunRecord),
        ("shifts", Shifts),
        ("ledger", LedgerFile),
    ):
        for field in (field for field, info in shape.model_fields.items() if info.is_required()):
            for value in (..., None):
                assert one_line_or_a_value(name, damaged(whole(name), (field,), value), tmp_path), (name, field)


def test_no_rule_gains_what_is_not_there() -> None:
    runs = {1: read_json(RUN)}
    assert rule_gains(runs) and path_accuracies(runs)
    with pytest.raises(RunError, match="no accuracy of 'oracle'; make it again"):
        cell_values([damaged(runs[1], ("selected", "oracle"), ...)], "oracle")
    with pytest.raises(RunError, match="has a number 'speed'"):
        metric_values(read_record("mnist-optdigits_cdlm", RESULTS), "speed")
