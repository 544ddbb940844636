"""Runs on disk: configuration, metrics, weights, and records with their provenance.

Generated from book/src/50_moments.md, book/src/90_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cdlm.data.domains import Domain, checksum, load_domain
from cdlm.evaluation import accuracy, encode_images, measure_modulation, predict
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.training import train

__all__ = [
    "MAX_JSON_BYTES",
    "METHODS",
    "RunError",
    "RunSpec",
    "build_config",
    "build_method",
    "code_fingerprint",
    "data_checksums",
    "evaluate",
    "load_pair",
    "load_run",
    "load_spec",
    "measure",
    "measure_moments",
    "metric_values",
    "new_folder",
    "processor",
    "provenance",
    "read_json",
    "read_record",
    "record",
    "revision",
    "run",
    "write_json",
]


# 50_moments: On a trained model

def measure_moments(folders: Iterable[Path], draws: int = 4000) -> dict:
    """A record of what Eqs. 3-6 assume, measured on the test images of stored runs of CDLM that differ in their seed only.

    Raises RunError for runs of another method, for runs that differ in more, and where the data have changed since.
    """
    folders = list(folders)
    joined = record(folders)
    if joined["spec"]["method"] != "cdlm":
        raise RunError(f"moments are measured on runs of cdlm, not of {joined['spec']['method']}")
    trained = {run["seed"]: {name: run[name] for name in ("target_accuracy", "provenance")} for run in joined["runs"]}
    measured = []
    for folder in folders:
        spec, model, source, target = load_run(folder)
        if data_checksums(source, target) != joined["runs"][0]["data"]:
            raise RunError(f"the data are not those that {folder} was trained on")
        s, t = (encode_images(model.encoder, domain.test.images) for domain in (source, target))
        found = measure_modulation(s, t, model.config.gamma1, model.config.gamma2, draws)
        measured.append({"seed": spec.seed, "trained": trained[spec.seed], **found})
    return {"measured": "moments", "split": "test", "draws": draws, "data": joined["runs"][0]["data"],
            "spec": joined["spec"], "config": joined["config"], "provenance": provenance("cpu"),
            "runs": sorted(measured, key=lambda run: run["seed"])}


# 90_runs: What defines a run

METHODS: dict[str, tuple[type[nn.Module], type]] = {
    "cdlm": (CDLM, CDLMConfig), "source": (SourceOnly, SourceConfig), "dann": (DANN, DANNConfig)}


class RunError(RuntimeError):
    """A run cannot be made, stored or read; the message says what to do."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that a run follows from. ``settings`` are fields of the method's config that differ from its defaults."""

    method: str
    source: str
    target: str
    seed: int = 0
    steps: int = 1500
    batch_size: int = 64
    settings: dict[str, float | int | bool | str] = field(default_factory=dict)


# 90_runs: What defines a run

def build_config(method: str, settings: dict[str, object]):
    """The method's config with ``settings`` in place. Raises RunError for unknown methods and names, wrong types and values."""
    if method not in METHODS:
        raise RunError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    config_class = METHODS[method][1]
    defaults = asdict(config_class())
    for name, value in settings.items():
        if name not in defaults:
            raise RunError(f"{method} has no setting {name!r}; it has: {', '.join(defaults)}")
        wanted = type(defaults[name])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise RunError(f"setting {name} must be of type {wanted.__name__}, not {value!r}")
    try:
        return config_class(**settings)
    except ValueError as error:
        raise RunError(f"{method}: {error}") from None


def load_pair(spec: RunSpec) -> tuple[Domain, Domain]:
    """Both domains of a run, with as many channels as the richer one of them."""
    source, target = load_domain(spec.source), load_domain(spec.target)
    channels = max(source.channels, target.channels)
    return load_domain(spec.source, channels), load_domain(spec.target, channels)


def build_method(spec: RunSpec, channels: int) -> nn.Module:
    """The method of a run with its weights initialized from the seed."""
    config = build_config(spec.method, {**spec.settings, "channels": channels})
    torch.manual_seed(spec.seed)
    return METHODS[spec.method][0](config)


# 90_runs: Where it was run

def code_fingerprint() -> str:
    """SHA-256 over the source files of the package, shortened: the same code gives the same fingerprint anywhere."""
    import cdlm
    digest = hashlib.sha256()
    for path in sorted(Path(cdlm.__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def revision() -> str | None:
    """The commit that the package's folder stands at, with "+" if its files differ from it; None outside git."""
    import cdlm
    folder = Path(cdlm.__file__).parent
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def provenance(device: str) -> dict[str, object]:
    """Versions, code and hardware behind a number."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "mlxtend")
    return {
        "python": platform.python_version(), "packages": {name: version(name) for name in packages},
        "code": code_fingerprint(), "revision": revision(),
        "system": platform.system(), "threads": torch.get_num_threads(),
        "hardware": torch.cuda.get_device_name() if device.startswith("cuda") else processor(),
    }


# 90_runs: Nothing half-written

@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the block ends well, and vanishes when it does not.

    Raises RunError if ``out`` exists and is not empty, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already; name another folder, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise RunError(f"cannot write to {out.parent}: {error.strerror}; name another folder") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON to a temporary neighbor and rename it: readers see the old file or the new one, never a half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# 90_runs: Running

def measure(method: nn.Module, source: Domain, target: Domain) -> dict[str, float]:
    """Accuracy on the test images of both domains, in test mode."""
    method.eval()
    return {f"{side}_accuracy": accuracy(predict(method.logits, domain.test.images), domain.test.labels)
            for side, domain in (("source", source), ("target", target))}


def data_checksums(source: Domain, target: Domain) -> dict[str, str]:
    """Checksums of the four splits that a run reads."""
    return {f"{domain.name}/{split}": checksum(getattr(domain, split))
            for domain in (source, target) for split in ("train", "test")}


def run(spec: RunSpec, out: Path, device: str = "cpu", report: Callable[[dict], None] | None = None) -> dict:
    """Train as ``spec`` says, measure, store everything in the new folder ``out``, and return the metrics."""
    source, target = load_pair(spec)
    method = build_method(spec, source.channels)
    with new_folder(out) as folder:
        start = time.monotonic()
        log = train(method, source, target, spec.steps, spec.seed, spec.batch_size, device, report=report)
        seconds = time.monotonic() - start
        method.cpu()
        metrics = {**measure(method, source, target), "selection": "last iteration", "seconds": round(seconds, 1),
                   "data": data_checksums(source, target), "provenance": provenance(device), "log": log}
        save_file(method.state_dict(), folder / "weights.safetensors")
        write_json(folder / "config.json", asdict(spec))
        write_json(folder / "metrics.json", metrics)
    return metrics


# 90_runs: Reading a run back

MAX_JSON_BYTES = 16 * 2**20


def read_json(path: Path) -> dict:
    """A JSON object from a file of bounded size. Raises RunError if it is missing, too large or not such an object."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise RunError(f"{path} is larger than {MAX_JSON_BYTES} bytes; it is no file of ours")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; is this a run folder?") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise RunError(f"{path} is damaged (not JSON); restore it, or train again") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged (not an object); restore it, or train again")
    return content


def load_spec(folder: Path) -> RunSpec:
    """What a stored run was asked."""
    content = read_json(folder / "config.json")
    kinds = {"method": str, "source": str, "target": str, "seed": int, "steps": int, "batch_size": int,
             "settings": dict}
    if set(content) != set(kinds) or not all(type(content[name]) is kind for name, kind in kinds.items()):
        expected = ", ".join(f"{name}: {kind.__name__}" for name, kind in kinds.items())
        raise RunError(f"{folder / 'config.json'} is not the config of a run; it should hold {expected}")
    return RunSpec(**content)


def load_run(folder: Path) -> tuple[RunSpec, nn.Module, Domain, Domain]:
    """A stored run: its spec, its trained method, and its two domains. Raises RunError for whatever is not in order."""
    spec = load_spec(folder)
    source, target = load_pair(spec)
    method = build_method(spec, source.channels)
    path = folder / "weights.safetensors"
    try:
        method.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; the run is incomplete, train again") from None
    except (SafetensorError, OSError):
        raise RunError(f"{path} is damaged; restore it, or train again") from None
    except RuntimeError:
        raise RunError(f"{path} does not fit the networks of config.json beside it; was one replaced?") from None
    return spec, method.eval(), source, target


def evaluate(folder: Path) -> dict[str, float]:
    """Measure a stored run again. Raises RunError if the data have changed since."""
    _, method, source, target = load_run(folder)
    stored = read_json(folder / "metrics.json").get("data")
    if stored != data_checksums(source, target):
        raise RunError(f"the data are not those that {folder} was measured on; its number cannot be compared")
    return measure(method, source, target)


# 90_runs: From runs to a record

def record(folders: Iterable[Path]) -> dict:
    """A record of runs that differ in their seed only, in the order of their seeds. Raises RunError if they do not."""
    runs = sorted(({"spec": asdict(load_spec(f)), "metrics": read_json(f / "metrics.json")} for f in folders),
                  key=lambda r: r["spec"]["seed"])
    without_seed = [{k: v for k, v in r["spec"].items() if k != "seed"} for r in runs]
    if not runs or any(spec != without_seed[0] for spec in without_seed):
        raise RunError("a record wants runs that differ in their seed only")
    if len({r["spec"]["seed"] for r in runs}) < len(runs):
        raise RunError("two of these runs have the same seed")
    if any(r["metrics"]["data"] != runs[0]["metrics"]["data"] for r in runs):
        raise RunError("these runs were measured on different data")
    config = asdict(build_config(without_seed[0]["method"], without_seed[0]["settings"]))
    return {"spec": without_seed[0], "config": config,
            "runs": [{"seed": r["spec"]["seed"], **r["metrics"]} for r in runs]}


def read_record(name: str, results: Path = Path("results")) -> dict:
    """A record by name from ``results``, which for a chapter is the folder beside it."""
    return read_json(results / f"{name}.json")


def metric_values(record: dict, metric: str = "target_accuracy") -> torch.Tensor:
    """One metric of all runs of a record, (runs,)."""
    return torch.tensor([run[metric] for run in record["runs"]], dtype=torch.float64)
