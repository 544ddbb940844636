"""The model of the page "Draw" as one file of JavaScript, from the run that its record names.

    python book/tools/draw_model.py           train that run again, then write book/draw/model.js
    python book/tools/draw_model.py RUN       write it from the stored run in a folder

A stored run gives the same file to the byte each time. Weights are rounded to half precision; all else in the file is computed
with the rounded ones.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path

from program import finish

# isort: split
import numpy as np
import torch
from checksums import keep_checksum
from disk import write_atomically
from torch import Tensor

from cdlm.data.domain import Domain, Split
from cdlm.evaluation.accuracy import accuracy
from cdlm.evaluation.readouts import encode_images, readouts
from cdlm.files import RunError
from cdlm.methods.base import Method
from cdlm.model.networks import principal_components
from cdlm.runs.record import read_record
from cdlm.runs.run import load_run, measure, read_run, run
from cdlm.runs.spec import RunSpec
from cdlm.training.checkpoints import content_digest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "book/draw/model.js"
RECORD, SEED = "draw", 0    # the first of the record's seeds, whatever came out
NETWORKS = ("encoder", "decoder", "classifier")
EMBEDDED, SAMPLES = 30, 3                   # of each class: the first ones of the test images
START = "window.cdlmModel = "


def text_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def halves(x: Tensor) -> str:
    """Numbers in half precision, the low byte first, as base64."""
    return text_of(x.detach().numpy().astype("<f2"))


def rounded(method: Method) -> Method:
    """The method itself, its weights rounded to half precision."""
    with torch.no_grad():
        for weight in method.parameters():
            weight.copy_(weight.half().float())
    return method


def first_of_each_class(split: Split, count: int) -> Tensor:
    """Places of the first ``count`` images of each class in a split, class by class."""
    return torch.cat([(split.labels == label).nonzero()[:count, 0] for label in range(10)])


def counters(domain: Domain) -> np.ndarray:
    """The optical digits that the page offers, (classes * SAMPLES, 64) bytes from 0 to 16, as scikit-learn has them."""
    from sklearn.datasets import load_digits

    images = load_digits().images[len(domain.train):]
    return images[first_of_each_class(domain.test, SAMPLES).numpy()].reshape(-1, 64).astype(np.uint8)


def content(method: Method, source: Domain, target: Domain, told: dict) -> dict:
    """What stands in the file: ``told`` of the run, then weights, embedded digits, their map, and samples."""
    weights = {name: x for name, x in rounded(method).state_dict().items() if name.startswith(NETWORKS)}
    h = torch.cat([encode_images(method.encoder, domain.test.images[first_of_each_class(domain.test, EMBEDDED)], domain=side).h
                   for side, domain in (("source", source), ("target", target))]).half().double()
    mean, axes, scale = principal_components(h, 2)
    read = readouts(method, source.train, target.test.images)
    return told | {
        "tested": {"source": len(source.test), "target": len(target.test)},
        "rounded": measure(method, source, target),
        "paths": {path: accuracy(read[path].argmax(1), target.test.labels) for path in method.paths},
        "width": method.config.networks.width, "latent": method.config.networks.latent,
        "gamma1": method.config.weights.gamma1, "gamma2": method.config.weights.gamma2,
        "tensors": [[name, list(x.shape)] for name, x in weights.items()],
        "embedded": EMBEDDED, "samples": SAMPLES,
        "share": round(float(scale.square().sum() / h.var(0).sum()), 4),
        "mean": [round(value, 6) for value in mean.tolist()],
        "axes": [[round(value, 6) for value in axis] for axis in axes.tolist()],
        "features": halves(h), "counters": text_of(counters(target)),
        "weights": halves(torch.cat([x.flatten() for x in weights.values()])),
    }  # fmt: skip


def script(found: dict) -> str:
    """The file: a line for each entry, so that a browser needs no server to read it."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    return ("// Written by book/tools/draw_model.py from a recorded run; never edited by hand.\n"
            + START + "{\n" + ",\n".join(lines) + "\n};\n")


def recorded_run(folder: Path) -> dict:
    """What is told of a stored run that is the recorded one. Raises RunError for another run."""
    record = read_record(RECORD, ROOT / "book/results")
    one = next(one for one in record["runs"] if one["seed"] == SEED)
    spec, metrics = read_run(folder)
    if spec != RunSpec(**record["spec"], seed=SEED):
        raise RunError(f"{folder} is not the run of {RECORD} with seed {SEED}: its settings differ; train that one")
    if metrics["log"] != one["log"]:
        raise RunError(f"{folder} has not the losses of {RECORD} with seed {SEED}: it was trained elsewhere; record it first, "
                       "with the runs of the other seeds")
    return {"record": RECORD, "seed": SEED}


def write(folder: Path) -> None:
    """Write the file from a stored run. Raises RunError where it is not the recorded one."""
    told = recorded_run(folder)
    _, method, source, target = load_run(folder)
    told["run_weights"] = content_digest(method.state_dict())
    write_atomically(MODEL, script(content(method, source, target, told)))
    keep_checksum(ROOT, MODEL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="folder of the stored run; without it, the run is trained")
    folder = parser.parse_args().run
    try:
        with tempfile.TemporaryDirectory() as place:
            if folder is None:
                folder = Path(place, "draw")
                run(RunSpec(**read_record(RECORD, ROOT / "book/results")["spec"], seed=SEED), folder)
            write(folder)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{MODEL.relative_to(ROOT).as_posix()}: written, {MODEL.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
