"""The engine on a GPU. All of this is skipped where torch finds none; nothing here was measured on one yet."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import team_run
import torch
from long_run import random_domain

from cdlm.data.batches import DomainBatch, draw_pair
from cdlm.methods.base import Method, draw_noise
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.training.checkpoints import read_checkpoint
from cdlm.training.engine import Trainer
from cdlm.training.loop import Loop, train
from cdlm.training.watch import LossWindow

pytestmark = pytest.mark.gpu
PAIR = random_domain("s", 0), random_domain("t", 1)
METHODS = {
    "source": lambda: SourceOnly(SourceConfig(width=4)),
    "dann": lambda: DANN(DANNConfig(width=4, hidden=8)),
    "cdlm": lambda: CDLM(CDLMConfig.of(width=4, latent=4)),
    "cdlm, alternating": lambda: CDLM(CDLMConfig.of(width=4, latent=4, updates="alternating")),
}
every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(autouse=True)
def whole_precision():
    """Convolutions in full float32, and the same algorithm each time."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def built(name: str) -> Method:
    torch.manual_seed(0)
    return METHODS[name]()


def to(batch: DomainBatch, device: str) -> DomainBatch:
    return replace(batch, x_s=batch.x_s.to(device), y_s=batch.y_s.to(device), x_t=batch.x_t.to(device))


def learn(model: Method, **settings: object) -> list[dict]:
    return train(model, *PAIR, Loop(**{"steps": 12, "batch_size": 8, "device": "cuda", "log_every": 4} | settings))


def assert_close(one: Method, other: Method, rtol: float, atol: float) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@every_method
def test_cpu_and_gpu_make_the_same_steps(name: str) -> None:
    """The same batches and the same noise, which the two devices would draw differently."""
    on_cpu = built(name)
    on_gpu = copy.deepcopy(on_cpu).cuda()
    trainers, generator = (Trainer(on_cpu, 5), Trainer(on_gpu, 5)), torch.Generator().manual_seed(0)
    for _ in range(5):
        batch, eps = draw_pair(PAIR[0].train, PAIR[1].train, 8, generator), draw_noise(on_cpu, 8, generator)
        losses = [trainer.iterate(to(batch, device), eps.to(device)) for trainer, device in zip(trainers, ("cpu", "cuda"))]
        for key, value in losses[0].items():
            torch.testing.assert_close(losses[1][key].cpu(), value, rtol=1e-3, atol=1e-4)
    assert_close(on_gpu, on_cpu, rtol=1e-2, atol=2e-3)


@every_method
def test_half_precision_stays_near_and_keeps_its_weights_whole(name: str) -> None:
    half, full = built(name), built(name)
    rows = learn(half, precision="bfloat16"), learn(full)
    assert all(value.dtype == torch.float32 for value in half.state_dict().values() if value.is_floating_point())
    for one, other in zip(*rows, strict=True):
        assert one == pytest.approx(other, rel=0.1, abs=0.05)


@every_method
@pytest.mark.parametrize("option, rel, abs", [("channels_last", 1e-3, 1e-4), ("compile", 1e-2, 1e-3)])
def test_another_order_of_memory_or_compiled_networks_make_the_same_steps(name: str, option: str, rel: float, abs: float) -> None:
    models = built(name), built(name)
    rows = [learn(model, **{option: wanted}) for model, wanted in zip(models, (True, False))]
    for one, other in zip(*rows, strict=True):
        assert one == pytest.approx(other, rel=rel, abs=abs)


@every_method
def test_the_processor_never_waits_between_two_rows(name: str) -> None:
    """An error for each operation that waits, from drawing the batch to adding up the losses."""
    model, generator, window = built(name).cuda(), torch.Generator("cuda").manual_seed(0), LossWindow()
    trainer, splits = Trainer(model, 6), [domain.train.to("cuda") for domain in PAIR]

    def step(number: int) -> None:
        batch, eps = draw_pair(*splits, 8, generator), draw_noise(model, 8, generator)
        window.add(number, trainer.iterate(batch, eps))
    step(1)                                                         # the first creates the optimizers' memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(2, 7):
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@every_method
def test_resumed_on_the_same_gpu(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c"
    whole, resumed = built(name), METHODS[name]()
    rows = learn(whole, checkpoint=path, checkpoint_every=5)
    assert read_checkpoint(path).step == 10
    again = learn(resumed, checkpoint=path, checkpoint_every=5)
    for one, other in zip(again, rows, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert_close(resumed, whole, rtol=1e-3, atol=1e-4)


@every_method
@pytest.mark.parametrize("first, then", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_checkpoint_moves_between_devices(name: str, first: str, then: str, tmp_path: Path) -> None:
    """Rows made before are kept as they are; the rest is drawn anew, and comes out finite and of the same kind."""
    path = tmp_path / "c"
    rows = learn(built(name), device=first, checkpoint=path, checkpoint_every=8)
    moved = METHODS[name]()
    again = learn(moved, device=then, checkpoint=path, checkpoint_every=8)
    assert again[:2] == rows[:2] and [row["step"] for row in again] == [4, 8, 12]
    assert {parameter.device.type for parameter in moved.parameters()} == {then}
    assert all(bool(value.isfinite().all()) for value in moved.state_dict().values())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="takes two GPUs")
def test_two_gpus_train_as_one(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, team_run.__file__, tmp_path, "cuda"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
