"""What the processes of a team do in the tests: torchrun ... team_run.py FOLDER. Each stores what it ends with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from long_run import random_domain
from safetensors.torch import save_file

from cdlm.methods.base import Learner, Method
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.processes import Team, team_of
from cdlm.training import train

STEPS, EVERY = 10, 6


class Double(Method):
    """A method in double precision, so that sums in another order differ by next to nothing."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method, self.noise = method.double(), method.noise

    def learners(self) -> list[Learner]:
        return self.method.learners()

    def rounds(self) -> tuple[tuple[str, ...], ...]:
        return self.method.rounds()

    def forward(self, batch, eps, progress):
        return self.method(replace(batch, x_s=batch.x_s.double(), x_t=batch.x_t.double()), eps.double(), progress)


METHODS = {
    "source": lambda: SourceOnly(SourceConfig(width=2)),
    "dann": lambda: DANN(DANNConfig(width=2, hidden=4)),
    "cdlm": lambda: CDLM(CDLMConfig.of(width=2, latent=2)),
    "cdlm-alternating": lambda: CDLM(CDLMConfig.of(width=2, latent=2, updates="alternating", inner_theta=2)),
}


def build(name: str) -> Double:
    torch.manual_seed(0)
    return Double(METHODS[name]())


def learn(model: Method, team: Team | None = None, checkpoint: Path | None = None) -> list[dict]:
    return train(model, random_domain("s", 0), random_domain("t", 1), STEPS, batch_size=8, log_every=4, team=team,
                 device=team.device if team else "cpu",
                 checkpoint=checkpoint, checkpoint_every=EVERY)


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
