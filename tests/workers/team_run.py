"""What the processes of a team do in the tests: torchrun ... team_run.py FOLDER. Each stores what it ends with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from long_run import random_domain
from safetensors.torch import save_file
from torch import Tensor
from zoo import OwnLabels

from cdlm.methods.base import Learner, Method, Round
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.mcd import MCD, MCDConfig
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.training.loop import Loop, train
from cdlm.training.team import Team, team_of

STEPS, EVERY = 10, 6


class Double(Method):
    """A method in double precision, so that sums in another order differ by next to nothing."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method, self.noise, self.config = method.double(), method.noise, method.config
        self.sampler, self.label_every = method.sampler, method.label_every

    def learners(self) -> list[Learner]:
        return self.method.learners()

    def rounds(self) -> tuple[Round, ...]:
        return self.method.rounds()

    def relabel(self, target_images: Tensor) -> Tensor:
        return self.method.relabel(target_images)

    def forward(self, batch, eps, now):
        return self.method(replace(batch, x_s=batch.x_s.double(), x_t=batch.x_t.double()), eps.double(), now)


METHODS = {
    "source": lambda: SourceOnly(SourceConfig(width=2)),
    "dann": lambda: DANN(DANNConfig(width=2, hidden=4)),
    "mcd": lambda: MCD(MCDConfig(width=2)),
    "labels": lambda: OwnLabels(torch.float64),
    "cdlm": lambda: CDLM(CDLMConfig.of(width=2, latent=2)),
    "cdlm-alternating": lambda: CDLM(CDLMConfig.of(width=2, latent=2, updates="alternating", inner_theta=2)),
}


def build(name: str) -> Double:
    torch.manual_seed(0)
    return Double(METHODS[name]())


def learn(model: Method, team: Team | None = None, checkpoint: Path | None = None) -> list[dict]:
    loop = Loop(STEPS, batch_size=8, log_every=4, device=team.device if team else "cpu", checkpoint=checkpoint,
                checkpoint_every=EVERY)
    return train(model, random_domain("s", 0), random_domain("t", 1), loop, team=team)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with team_of(sys.argv[2] if len(sys.argv) > 2 else "cpu") as team:
        for name in METHODS:
            model, path = build(name), folder / f"{name}.checkpoint"
            log = learn(model, team, path)
            resumed = build(name)                                   # from the checkpoint of step EVERY
            team.all_agree(True)                                    # when the first process has written it
            again = learn(resumed, team, path)
            same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values()))
            save_file(model.state_dict(), folder / f"{name}.{team.rank}.weights")
            (folder / f"{name}.{team.rank}.log").write_text(json.dumps({"log": log, "resumed": same and again == log}))
        learn(DANN(DANNConfig(width=2, hidden=4, alignment="coral")), team)     # its discriminator gets no gradient
        (folder / f"{team.rank}.done").write_text(str(team.size))
