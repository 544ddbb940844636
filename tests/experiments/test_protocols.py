"""The same tasks with fewer images, and with USPS in a frame: domains, runs, distances, records, and the command."""

from __future__ import annotations

import bz2
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from shell import assert_one_line, here

from cdlm.data.archives import DataError
from cdlm.data.domain import Split, UnknownDomainError
from cdlm.domains.catalog import CATALOG, open_domain
from cdlm.domains.digits import enlarge
from cdlm.experiments import protocols
from cdlm.experiments.plan import job, table_rows
from cdlm.experiments.protocols import (
    PROTOCOL_RECIPES,
    PROTOCOL_ROWS,
    PROTOCOLS,
    distances,
    fewer,
    framed,
    pair_distance,
    protocol_accuracies,
    protocol_domains,
    protocol_jobs,
)
from cdlm.experiments.record import is_valid
from cdlm.files import read_json
from cdlm.methods.registry import build_config
from cdlm.settings import flat

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "book/results/protocols"
STANDARD = ROOT / "book/results/runs"


def store_usps(folder: Path, train: int = 30, test: int = 20) -> None:
    """Files of USPS: images of 16 x 16 random pixels."""
    (folder / "USPS").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name, count in (("usps.bz2", train), ("usps.t.bz2", test)):
        values = torch.rand(count, 256, generator=generator) * 2 - 1
        pixels = [" ".join(f"{j + 1}:{value:.3f}" for j, value in enumerate(row)) for row in values.tolist()]
        text = "".join(f"{i % 10 + 1} {row}\n" for i, row in enumerate(pixels))
        (folder / "USPS" / name).write_bytes(bz2.compress(text.encode()))


# Images


def test_fewer_images_are_some_of_them_with_their_labels_and_always_the_same() -> None:
    train = Split(torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1), torch.arange(50))
    build = fewer(lambda search: (train, train), 20)
    small, test = build(None)
    assert test is train and len(small) == 20 == len(set(small.labels.tolist()))
    assert torch.equal(small.images.view(-1).long(), small.labels) and torch.equal(small.labels, small.labels.sort().values)
    assert small.labels.tolist() != list(range(20)), "drawn, not the first ones"
    assert torch.equal(build(None)[0].labels, small.labels)
    with pytest.raises(DataError, match="50 images to train are here, and 51 are to be drawn"):
        fewer(lambda search: (train, train), 51)(None)


@pytest.mark.parametrize("size", [16, 17, 28])
def test_a_frame_leaves_the_image_in_the_middle_as_it_was(size: int) -> None:
    images = torch.randint(1, 256, (3, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    wide, before = framed(images, size), (size - 16) // 2
    assert wide.shape == (3, 1, size, size) and wide.dtype == torch.uint8
    inner = wide[..., before : before + 16, before : before + 16]
    assert torch.equal(inner, images) and wide.long().sum() == images.long().sum()


def test_the_domains_are_those_of_the_catalog_but_for_what_the_protocol_says(no_data: Path, tmp_path: Path, monkeypatch) -> None:
    store_usps(tmp_path)
    monkeypatch.setitem(PROTOCOL_RECIPES, "usps1800", replace(
        PROTOCOL_RECIPES["usps1800"], build=fewer(protocols.build_usps, 10)))  # fmt: skip
    usps = open_domain("usps", "full", root=tmp_path)
    with protocol_domains():
        few, wide = (open_domain(name, "full", root=tmp_path) for name in ("usps1800", "uspsframed"))
    assert len(few.train) == 10 and torch.equal(few.test.images, usps.test.images)
    assert all((image == usps.train.images).flatten(1).all(1).any() for image in few.train.images)
    inner = wide.train.images[..., 6:22, 6:22]
    assert torch.equal(enlarge(inner, 28), usps.train.images) and torch.equal(wide.train.labels, usps.train.labels)
    assert wide.classes == few.classes == usps.classes and wide.license == usps.license


def test_the_catalog_has_them_only_within_the_block() -> None:
    before = dict(CATALOG)
    with pytest.raises(RuntimeError, match="on the way"), protocol_domains():
        assert CATALOG.keys() == before.keys() | PROTOCOL_RECIPES.keys()
        raise RuntimeError("on the way")
    assert before == CATALOG and not before.keys() & PROTOCOL_RECIPES.keys()
    with pytest.raises(UnknownDomainError):
        open_domain("mnist2000")


# Runs


def test_a_run_differs_from_that_of_the_table_in_its_domains_alone() -> None:
    rows = {row: variant for row, _, variant in table_rows()["neighbors"]}
    found = {work.name: work.spec for work in protocol_jobs([1, 2])}
    assert len(found) == 2 * 2 * 2 * len(PROTOCOL_ROWS)
    for protocol, tasks in PROTOCOLS.items():
        for task, name in tasks.items():
            source, target = name.split("-")
            assert protocol == "standard" or {source, target} & PROTOCOL_RECIPES.keys()
            assert {source, target} <= CATALOG.keys() | PROTOCOL_RECIPES.keys()
            for row in PROTOCOL_ROWS:
                work = job(rows[row], task, 2)
                ours = found.get(f"{name}_{rows[row].name}_s2", work.spec if protocol == "standard" else None)
                assert replace(ours, source=work.spec.source, target=work.spec.target) == work.spec


SHIPPED = sorted(RECORDS.glob("*"))


def test_there_are_records() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_a_shipped_record_is_that_of_a_planned_run_on_the_images_that_its_protocol_says(path: Path) -> None:
    record = read_json(path)
    [spec] = [work.spec for work in protocol_jobs([record["spec"]["seed"]]) if work.name == path.stem]
    assert is_valid(path, spec) and record["spec"] == asdict(spec)
    assert record["config"].items() <= flat(build_config(spec.method, spec.settings)).items()
    assert record["log"][-1]["step"] == record["selected"]["last"]["step"] == spec.steps
    [task] = [task for tasks in PROTOCOLS.values() for task, name in tasks.items() if name == f"{spec.source}-{spec.target}"]
    known = read_json(STANDARD / f"{task}_adversarial_s2.json")["data"]
    whole = {known.get(f"{side}/{part}", known.get(f"{task.split('-')[i]}/{part}"))
             for i, side in enumerate(("source", "target")) for part in ("train", "test")}  # fmt: skip
    same = {split for split, checksum in record["data"].items() if checksum in whole}
    framed_side = "source" if spec.source == "uspsframed" else "target"
    assert same == {split for split in record["data"] if (
        split.endswith("/test") if "2000" in path.stem else not split.startswith(framed_side))}  # fmt: skip


# Distances


def test_distances_are_means_over_pairs_at_a_common_seed() -> None:
    assert pair_distance([{1: 0.5, 2: 0.9}, {1: 0.7}, {1: 0.4}]) == pytest.approx((0.2 + 0.1 + 0.3) / 3)
    assert pair_distance([{1: 0.5}, {2: 0.7}, {}]) != pair_distance([{1: 0.5}, {2: 0.7}, {}]), "not a number"


def test_what_differs_is_one_thing_at_a_time() -> None:
    found = distances({"a": {"standard": {1: 0.8, 2: 0.7, 3: 0.75}, "small": {1: 0.6}, "padded": {}},
                       "b": {"standard": {1: 0.9}, "small": {1: 0.9}, "padded": {}}})  # fmt: skip
    assert found.seeds == pytest.approx({"a": (0.1 + 0.05 + 0.05) / 3})
    assert found.protocols == pytest.approx({"a": 0.2, "b": 0.0})
    assert found.methods == pytest.approx({"standard": 0.1, "small": 0.3})


def test_accuracies_come_from_the_folder_of_their_protocol() -> None:
    found = protocol_accuracies("usps-mnist", STANDARD, RECORDS)
    assert tuple(found) == PROTOCOL_ROWS and all(tuple(cells) == tuple(PROTOCOLS) for cells in found.values())
    last = read_json(STANDARD / "usps-mnist_adversarial_s2.json")["selected"]["last"]["target_accuracy"]
    assert found["DANN"]["standard"][2] == last
    for path in RECORDS.glob("usps1800-mnist2000_source-only_s*.json"):
        record = read_json(path)
        assert found["source only"]["small"][record["spec"]["seed"]] == record["selected"]["last"]["target_accuracy"]


# The command


def test_the_command_lists_all_runs(tmp_path: Path) -> None:
    done = here("reproduce", "protocols", "--seeds", "1-2", "--list", "--results", tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count(" todo ") == len(protocol_jobs([1, 2]))


WRONG = [
    (["--workers", "2"], "protocols are made one after the other"),
    (["--dask", "local"], "one after the other"),
    (["--profile", "huge"], "profile 'huge'; there are"),
    (["--seeds", "x"], "seeds have the form"),
    (["--job", "9999"], "numbered from 0"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words[0].strip("-") for words, _ in WRONG])
def test_wrong_words_get_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(here("reproduce", "protocols", "--results", tmp_path, "--work", tmp_path / "work", *words), message)
    assert not (tmp_path / "work").exists()


def test_without_data_the_command_says_what_to_do(no_data: Path, tmp_path: Path) -> None:
    done = here("reproduce", "protocols", "--seeds", "1", "--profile", "smoke", "--job", "2", "--results", tmp_path / "r",
                "--work", tmp_path / "w")  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "cdlm data fetch usps" in done.stderr
    assert done.stderr.endswith("error: 1 of 1 runs failed; the same command tries them again\n")


def test_the_command_makes_a_record(no_data: Path, tmp_path: Path, monkeypatch) -> None:
    store_usps(tmp_path / "data")
    monkeypatch.setenv("CDLM_DATA", str(tmp_path / "data"))
    done = here("reproduce", "protocols", "--seeds", "1", "--profile", "smoke", "--job", "2", "--results", tmp_path / "r",
                "--work", tmp_path / "w")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"1 runs are on record in {tmp_path / 'r'}\n"), done.stderr
    [path] = (tmp_path / "r").iterdir()
    record = read_json(path)
    assert path.stem == "mnist-uspsframed_source-only_s1" and record["spec"]["target"] == "uspsframed"
    assert here("reproduce", "protocols", "--seeds", "1", "--profile", "smoke", "--list", "--results", tmp_path / "r"
                ).stdout.count(" done ") == 1  # fmt: skip
