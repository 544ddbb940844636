"""Several processes, one model: real processes, started by torchrun, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import team_run
import torch
from long_run import random_domain
from safetensors.torch import load_file
from team_run import EVERY, METHODS, build, learn

from cdlm.data.batches import DomainBatch
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.training.checkpoints import read_checkpoint
from cdlm.training.engine import leaves_some_out
from cdlm.training.loop import share_of
from cdlm.training.team import Team, team_of

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its distributed part")


def test_shares_are_the_batch_in_order() -> None:
    batch = DomainBatch(torch.rand(6, 1, 2, 2), torch.arange(6), torch.rand(6, 1, 2, 2))
    shares = [share_of(batch, Team(rank, 3), torch.contiguous_format) for rank in range(3)]
    assert torch.equal(torch.cat([share.x_s for share in shares]), batch.x_s)
    assert torch.equal(torch.cat([share.x_t for share in shares]), batch.x_t)
    assert [share.y_s.tolist() for share in shares] == [[0, 1], [2, 3], [4, 5]]
    eps = torch.rand(4, 6, 3)
    assert torch.equal(torch.cat([Team(rank, 2).share(eps, 1) for rank in range(2)], 1), eps)


def test_a_team_of_one_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with team_of("cpu") as team:
        assert team == Team() and not torch.distributed.is_initialized()
    values = torch.rand(3)
    assert torch.equal(team.mean(values), values) and team.least(values) is values
    assert team.all_agree(True) and not team.all_agree(False)


def test_methods_whose_parameters_all_learn_and_one_whose_do_not() -> None:
    images = random_domain("s", 0).train, random_domain("t", 1).train
    assert not leaves_some_out(CDLM(CDLMConfig.of(width=2, latent=2)), images)
    assert leaves_some_out(DANN(DANNConfig(width=2, alignment="coral")), images)
    batch_norm = CDLM(CDLMConfig.of(width=2, latent=2, normalization="batch"))
    before = {name: value.clone() for name, value in batch_norm.state_dict().items()}
    leaves_some_out(batch_norm, images)
    assert all(torch.equal(value, before[name]) for name, value in batch_norm.state_dict().items())
    assert all(parameter.grad is None for parameter in batch_norm.parameters())


@pytest.fixture(scope="module")
def team_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}      # what a test can import, its processes can
    done = subprocess.run(
        [*TORCHRUN, team_run.__file__, folder], capture_output=True, text=True, timeout=600, env=os.environ | paths)
    assert done.returncode == 0, done.stderr
    assert [(folder / f"{rank}.done").read_text() for rank in (0, 1)] == ["2", "2"]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one_on_the_whole_batch(name: str, team_folder: Path) -> None:
    """In double precision, where only the order of the sums is another."""
    model = build(name)
    log = learn(model)
    found = [json.loads((team_folder / f"{name}.{rank}.log").read_text()) for rank in (0, 1)]
    assert found[0] == found[1] and found[0]["resumed"]
    for row, expected in zip(found[0]["log"], log, strict=True):
        assert row == pytest.approx(expected, rel=1e-9)
    weights = [load_file(team_folder / f"{name}.{rank}.weights") for rank in (0, 1)]
    for key, value in model.state_dict().items():
        assert torch.equal(weights[0][key], weights[1][key])
        assert torch.allclose(weights[0][key], value, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_one(team_folder: Path) -> None:
    path = team_folder / "cdlm.checkpoint"
    assert read_checkpoint(path).step == EVERY
    model, whole = build("cdlm"), build("cdlm")
    learn(model, checkpoint=path)
    learn(whole)
    for key, value in whole.state_dict().items():
        assert torch.allclose(model.state_dict()[key], value, rtol=1e-8, atol=1e-9)


WORDS = ["train", "mnist", "optdigits", "--size", "sample", "--batch-size", "4", "--set", "width=2", "--set", "latent=2",
         "--device", "cpu", "--log-every", "5"]


@pytest.mark.slow
def test_the_command_under_torchrun_says_and_stores_everything_once(tmp_path: Path) -> None:
    command = [*TORCHRUN, "-m", "cdlm", *WORDS, "--steps", "20", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("target accuracy") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["config.json", "log.csv", "metrics.json", "weights.safetensors"]
    assert json.loads((tmp_path / "run/metrics.json").read_text())["provenance"]["engine"]["processes"] == 2


@pytest.mark.slow
def test_an_error_under_torchrun_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/file").write_text("kept")
    for words, message in ((["--out", str(tmp_path / "run")], "exists already"),
                           (["--out", str(tmp_path / "other"), "--batch-size", "5"], "a batch of 5 cannot be shared evenly by 2")):
        done = subprocess.run([*TORCHRUN, "-m", "cdlm", *WORDS, *words], capture_output=True, text=True, timeout=600)
        assert done.returncode != 0
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(told) == 1 and message in told[0]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
def test_an_interrupted_team_leaves_a_checkpoint_and_is_resumed(tmp_path: Path) -> None:
    command = [*TORCHRUN, "-m", "cdlm", *WORDS, "--steps", "300", "--checkpoint-every", "10", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    path, deadline = tmp_path / "run.partial/checkpoint.safetensors", time.monotonic() + 600
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0 and "the same command resumes it" in errors
    assert read_checkpoint(path).step % 5 == 0 and not (tmp_path / "run").exists()
    assert subprocess.run(command, capture_output=True, timeout=600).returncode == 0
    lines = (tmp_path / "run/log.csv").read_text().splitlines()
    assert [int(line.partition(",")[0]) for line in lines[1:]] == list(range(5, 301, 5))
