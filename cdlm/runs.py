"""Runs on disk: configuration, metrics, weights, and records with their provenance.

Generated from book/src/50_moments.md, book/src/90_runs.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cdlm.checkpoints import compare_runs, flush, read_checkpoint, replacing, sweep
from cdlm.data.augment import Augment
from cdlm.data.catalog import CATALOG, SIZES, check_classes, in_color, open_domain
from cdlm.data.domains import Domain, checksum
from cdlm.data.recipes import OpenedDomain
from cdlm.evaluation import accuracy, encode_images, measure_modulation, predict
from cdlm.methods.base import Method
from cdlm.methods.registry import METHODS
from cdlm.nets import facing
from cdlm.processes import Team, team_of
from cdlm.settings import Images, Settings, flat, from_flat
from cdlm.training import Interrupted, Loop, train

__all__ = [
    "CHECKPOINT",
    "LOCK",
    "MAX_JSON_BYTES",
    "Measuring",
    "OLD_NAMES",
    "OWN_FILES",
    "RunError",
    "RunSpec",
    "SNAPSHOT_FILE",
    "Snapshots",
    "build_augment",
    "build_config",
    "build_method",
    "check_free",
    "check_work",
    "claim",
    "code_fingerprint",
    "data_checksums",
    "discard",
    "evaluate",
    "finish",
    "found_size",
    "joined_record",
    "kept_if_resumable",
    "load_pair",
    "load_run",
    "load_spec",
    "log_table",
    "measure",
    "measure_moments",
    "metric_values",
    "new_folder",
    "open_at",
    "partial_folder",
    "partial_of",
    "processor",
    "provenance",
    "read_json",
    "read_record",
    "read_records",
    "record_path",
    "revision",
    "run",
    "sizes_of",
    "working_folder",
    "write_json",
]


# 50_moments: On a trained model

def measure_moments(folders: Iterable[Path], draws: int = 4000) -> dict:
    """A record of what Eqs. 3-6 assume, measured on the test images of stored runs of CDLM that differ in their seed only.

    Raises RunError for runs of another method, for runs that differ in more, and where the data have changed since.
    """
    folders = list(folders)
    joined = joined_record(folders)
    if joined["spec"]["method"] != "cdlm":
        raise RunError(f"moments are measured on runs of cdlm, not of {joined['spec']['method']}")
    trained = {run["seed"]: {name: run[name] for name in ("target_accuracy", "provenance")} for run in joined["runs"]}
    measured = []
    for folder in folders:
        spec, model, source, target = load_run(folder)
        if data_checksums(source, target) != joined["runs"][0]["data"]:
            raise RunError(f"the data are not those that {folder} was trained on")
        s, t = (encode_images(model.encoder, domain.test.images, domain=side)
                for domain, side in ((source, "source"), (target, "target")))
        found = measure_modulation(s, t, model.config.weights.gamma1, model.config.weights.gamma2, draws)
        measured.append({"seed": spec.seed, "trained": trained[spec.seed], **found})
    return {"measured": "moments", "split": "test", "draws": draws, "data": joined["runs"][0]["data"],
            "spec": joined["spec"], "config": joined["config"], "provenance": provenance("cpu"),
            "runs": sorted(measured, key=lambda run: run["seed"])}


# 90_runs: What defines a run

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
    size: str = "sample"                # of the data: "sample", "full", "partial", "best", or one for each, as "sample,full"
    precision: str = "float32"          # of the networks' arithmetic: "float32" or "bfloat16"
    augment: dict[str, float] = field(default_factory=dict)     # random changes to images of both domains, as Augment has them
    strong: dict[str, float] = field(default_factory=dict)      # and to those target images that come a second time, if any


def build_config(method: str, settings: dict[str, object]) -> Settings:
    """The method's config with ``settings`` in place. Raises RunError for unknown methods and names, wrong types and values."""
    if method not in METHODS:
        raise RunError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    try:
        return from_flat(METHODS[method][1], settings)
    except ValueError as error:
        raise RunError(f"{method}: {error}") from None


def build_augment(settings: dict[str, float]) -> Augment | None:
    """The random changes of a run, None for none. Raises RunError for names there are not and for what is not a number."""
    known = [change.name for change in fields(Augment)]
    for name, value in settings.items():
        if name not in known:
            raise RunError(f"images cannot be augmented by {name!r}; there is: {', '.join(known)}")
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise RunError(f"augmentation {name} must be a number that is not negative, not {value!r}")
    return Augment(**settings) if settings else None


# 90_runs: The data of a run

def open_at(name: str, size: str) -> OpenedDomain:
    """A domain of the catalog, or a folder, in one of its sizes; "partial" is what a set can be made of with less files."""
    if size == "partial":
        return open_domain(name, "full", **(CATALOG[name].partial or {} if name in CATALOG else {}))
    return open_domain(name, size)


def sizes_of(spec: RunSpec) -> tuple[str, str]:
    """Size of the source's data and of the target's. Raises RunError for other words."""
    sizes = spec.size.split(",")
    if len(sizes) > 2 or not set(sizes) <= {*SIZES, "partial"}:
        raise RunError(f"size is one of {', '.join(SIZES)}, or one for each domain, as sample,full; not {spec.size!r}")
    return sizes[0], sizes[-1]


def found_size(source: OpenedDomain, target: OpenedDomain) -> str:
    """What to write in a config for the data that were found, such as "full", or "sample,full" where they differ.

    A domain whose sample is the whole set says what the other one says.
    """
    def any_will_do(domain: OpenedDomain) -> bool:
        return domain.name in CATALOG and CATALOG[domain.name].sample_counts == CATALOG[domain.name].counts
    first = target.size if any_will_do(source) and target.size != "partial" else source.size
    second = source.size if any_will_do(target) and source.size != "partial" else target.size
    return first if first == second else f"{first},{second}"


def load_pair(spec: RunSpec) -> tuple[OpenedDomain, OpenedDomain]:
    """Both domains of a run, with as many channels as the richer one of them.

    Raises RunError for pairs that no method can take, and what open_domain raises for domains that are not to be had.
    """
    source, target = pair = [open_at(*words) for words in zip((spec.source, spec.target), sizes_of(spec))]
    check_classes(source, target)
    if not source.classes:
        raise RunError(f"{spec.source} has no classes to learn; a source is a folder with a folder for each class")
    pixels = [tuple(domain.train.images.shape[2:]) for domain in pair]
    if pixels[0] != pixels[1] or pixels[0] not in ((28, 28), (32, 32), (64, 64)):
        raise RunError(f"images of {spec.source} and {spec.target} are {' and '.join(f'{h} x {w}' for h, w in pixels)}; "
                       "both must be 28 x 28, 32 x 32 or 64 x 64")
    channels = max(domain.channels for domain in pair)
    return tuple(domain if domain.channels == channels else
                 replace(domain, train=in_color(domain.train), test=in_color(domain.test)) for domain in pair)


def build_method(spec: RunSpec, source: Domain) -> Method:
    """The method of a run for images like those of ``source``, its weights initialized from the seed."""
    config = build_config(spec.method, spec.settings)
    images = Images(source.channels, source.train.images.shape[-1], len(source.classes))
    torch.manual_seed(spec.seed)
    return METHODS[spec.method][0](config, images)


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


# 90_runs: Where a run lives until it is finished

CHECKPOINT, SNAPSHOT_FILE, LOCK = "checkpoint.safetensors", "snapshots.json", ".lock"
OWN_FILES = (CHECKPOINT, SNAPSHOT_FILE, LOCK, "config.json", "log.csv", "weights.safetensors", "metrics.json")


def partial_of(out: Path) -> Path:
    """The folder in which a run works until it can be called ``out``."""
    return out.with_name(f"{out.name}.partial")


def check_free(out: Path) -> None:
    """Raise RunError if ``out`` exists and is not an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already; name another folder, or remove it")


def claim(folder: Path, spec: RunSpec) -> None:
    """Make sure that a folder is empty, or of an unfinished run of ``spec``. Raises RunError for any other."""
    if (folder / "config.json").exists():
        there, here = asdict(load_spec(folder)), asdict(spec)
        if difference := compare_runs(there, here):
            raise RunError(f"{folder} holds another unfinished run: {difference}; give its settings to resume it, "
                           "name another folder, or remove it")
    elif others := [path.name for path in folder.iterdir() if path.name not in OWN_FILES and path.name[0] != "."]:
        raise RunError(f"{folder} is needed to work in, and holds {others[0]}; name another folder, or remove it")
    for name in OWN_FILES:
        sweep(folder / name)
    write_json(folder / "config.json", asdict(spec))


def discard(folder: Path) -> None:
    """Remove a run's own files from its folder, and the folder if nothing else is in it."""
    for name in OWN_FILES:
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def partial_folder(out: Path, spec: RunSpec) -> Iterator[Path]:
    """The folder that a run of ``spec`` works in, alone; it becomes ``out`` when the block ends well.

    When it does not, the folder stays if there is a checkpoint in it. Raises RunError if another process is at work
    there, if it holds another run, if ``out`` is not free, or if it cannot be written.
    """
    check_free(out)
    folder = partial_of(out)
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another process is at work in {folder}; wait for it, or name another folder") from None
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}; name another folder") from None
    try:
        check_free(out)                                             # it may have been finished just now
        claim(folder, spec)
        with kept_if_resumable(folder):
            yield folder
            finish(folder, out, lock.release)
    finally:
        lock.release()


@contextmanager
def kept_if_resumable(folder: Path) -> Iterator[None]:
    """Remove the folder if the block fails and there is no checkpoint in it to go on from."""
    try:
        yield
    except BaseException as error:
        if not (folder / CHECKPOINT).exists():
            discard(folder)
        elif isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
            raise Interrupted("interrupted; the same command resumes it from its last checkpoint") from None
        raise


def finish(folder: Path, out: Path, release: Callable[[], object]) -> None:
    """Remove what only a resumed run needs, and give the folder its name; ``release`` opens its lock where it must be open."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    (folder / SNAPSHOT_FILE).unlink(missing_ok=True)
    if os.name == "nt":                                             # where a folder with an open file cannot be renamed
        release()
    os.replace(folder, out)
    flush(out.parent)
    (out / LOCK).unlink(missing_ok=True)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the block ends well, and vanishes when it does not.

    Raises RunError if ``out`` exists and is not empty, or cannot be written.
    """
    check_free(out)
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


@contextmanager
def working_folder(out: Path, spec: RunSpec, kept: bool, team: Team) -> Iterator[Path]:
    """The folder that the first process of a team works in, and the others read from: partial_folder if it is ``kept``."""
    with ExitStack() as stack:
        begun, folder = False, partial_of(out)
        try:
            if team.rank == 0:
                folder = stack.enter_context(partial_folder(out, spec) if kept else new_folder(out))
            begun = True
        finally:
            together = team.all_agree(begun)
        if not together:
            raise RunError("the first process could not begin; it says why")
        yield folder


def write_json(path: Path, content: object) -> None:
    """Write JSON, through to the disk: readers see the old file or the new one, never a half."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


# 90_runs: Running

def measure(method: Method, source: Domain, target: Domain) -> dict[str, float]:
    """Accuracy on the test images of both domains, in test mode; of a domain without classes there is none."""
    method.eval()
    found = {}
    for side, domain in (("source", source), ("target", target)):
        if domain.classes:
            with facing(method, side):
                found[f"{side}_accuracy"] = accuracy(predict(method.logits, domain.test.images), domain.test.labels)
    return found


@dataclass(frozen=True)
class Measuring:
    """What a run measures: ``final`` after its training, and ``glance`` at ``snapshots`` evenly spaced steps of it."""

    snapshots: int = 0
    glance: Callable[[Method, Domain, Domain], dict] = measure
    final: Callable[[Method, Domain, Domain], dict] = measure


def data_checksums(source: Domain, target: Domain) -> dict[str, str]:
    """Checksums of the four splits that a run reads."""
    return {f"{domain.name}/{split}": checksum(getattr(domain, split))
            for domain in (source, target) for split in ("train", "test")}


@contextmanager
def log_table(path: Path | None) -> Iterator[Callable[[dict], None]]:
    """A function that adds a row to a new CSV file, readable at once; with no path, one that does nothing."""
    if path is None:
        yield lambda row: None
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        def add(row: dict) -> None:
            if not file.tell():
                writer.writerow(row)
            writer.writerow(row.values())
            file.flush()
        yield add


class Snapshots:
    """What a method was found to be at evenly spaced steps of its training; ``take`` is called with each row of the log."""

    def __init__(self, path: Path, method: Method, domains: Sequence[Domain], steps: int,
                 measuring: Measuring, clock: Callable[[], float]) -> None:
        self.path, self.method, self.domains, self.measuring, self.clock = path, method, domains, measuring, clock
        self.due = [round(steps * (i + 1) / measuring.snapshots) for i in range(measuring.snapshots)]
        self.found: list[dict] = read_json(path)["snapshots"] if path.exists() else []

    def take(self, step: int) -> None:
        """Measure, if a snapshot is due at ``step`` or was due since the last one, and keep it."""
        last = self.found[-1]["step"] if self.found else 0
        if step <= last or not any(last < due <= step for due in self.due):
            return
        seconds = self.clock()
        values = self.measuring.glance(self.method, *self.domains)
        self.method.train()
        self.found.append({"step": step, "seconds": round(seconds, 1), **values})
        write_json(self.path, {"snapshots": self.found})


def check_work(spec: RunSpec, team: Team) -> None:
    """Raise RunError for settings and a precision there are not, and for a batch that cannot be shared evenly."""
    config = build_config(spec.method, spec.settings)
    build_augment(spec.augment), build_augment(spec.strong)
    if METHODS[spec.method][0].needs_second_view(config) and not spec.strong:
        raise RunError("self-training needs target images changed strongly: give such changes, or set self_training=0.0")
    if spec.precision not in ("float32", "bfloat16"):
        raise RunError(f"precision is {spec.precision!r}; it must be float32 or bfloat16")
    if spec.batch_size % team.size:
        raise RunError(f"a batch of {spec.batch_size} cannot be shared evenly by {team.size} processes")


def run(spec: RunSpec, out: Path, device: str = "cpu", report: Callable[[dict], None] | None = None, log_every: int = 50,
        checkpoint_every: int = 500, channels_last: bool = False, compile: bool = False,
        measuring: Measuring | None = None) -> dict:
    """Train as ``spec`` says, measure, store everything in the new folder ``out``, and return the metrics.

    A run that was killed goes on from its last checkpoint, made every ``checkpoint_every`` steps (0: never). Of several
    processes that torchrun has started, the first one measures and stores; the others return no metrics. ``measuring``
    says what is measured beside the accuracies; ``seconds`` are those of training and snapshots.
    """
    measuring = measuring or Measuring()
    with team_of(device) as team:
        check_work(spec, team)                                      # before data are read, which may take a while
        source, target = load_pair(spec)
        spec = replace(spec, size=found_size(source, target)) if "best" in spec.size else spec
        method, kept, first = build_method(spec, source), checkpoint_every > 0, team.rank == 0
        with working_folder(out, spec, kept, team) as folder, log_table(folder / "log.csv" if first else None) as add:
            start, path = time.monotonic(), folder / CHECKPOINT
            if kept and path.exists():
                start -= read_checkpoint(path).seconds
            there = [replace(d, train=d.train.to(team.device), test=d.test.to(team.device)) for d in (source, target)]
            course = Snapshots(folder / SNAPSHOT_FILE, method, there, spec.steps, measuring,
                               lambda: time.monotonic() - start)
            def tell(row: dict) -> None:
                add(row)
                if first:
                    course.take(row["step"])
                if report is not None and first:
                    report(row)
            loop = Loop(spec.steps, spec.seed, spec.batch_size, log_every, spec.precision,
                        build_augment(spec.augment), build_augment(spec.strong), team.device,
                        channels_last, compile, path if kept else None, checkpoint_every)
            log = train(method, source, target, loop, tell, team)
            seconds = time.monotonic() - start
            if not first:
                return {}
            method.cpu().to(memory_format=torch.contiguous_format)     # as safetensors wants weights
            engine = {"device": device, "processes": team.size, "channels_last": channels_last, "compile": compile}
            metrics = {**measuring.final(method, source, target), "selection": "last iteration", "seconds": round(seconds, 1),
                       "data": data_checksums(source, target), "provenance": provenance(device) | {"engine": engine}, "log": log}
            if course.found:
                metrics["snapshots"] = course.found
            with replacing(folder / "weights.safetensors") as temporary:
                save_file(method.state_dict(), temporary)
            write_json(folder / "config.json", asdict(spec))
            write_json(folder / "metrics.json", metrics)
    return metrics


# 90_runs: Reading a run back

MAX_JSON_BYTES = 16 * 2**20


def read_json(path: Path, kind: type = dict) -> dict | list:
    """A JSON object, or a list, from a file of bounded size.

    Raises RunError if it is missing, too large or not such an object.
    """
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
    if not isinstance(content, kind):
        wanted = "an object" if kind is dict else "a list"
        raise RunError(f"{path} is damaged (not {wanted}); restore it, or train again")
    return content


def load_spec(folder: Path) -> RunSpec:
    """What a stored run was asked."""
    content = read_json(folder / "config.json")
    kinds = {"method": str, "source": str, "target": str, "seed": int, "steps": int, "batch_size": int,
             "settings": dict, "size": str, "precision": str, "augment": dict, "strong": dict}
    content = {"size": "sample", "precision": "float32", "augment": {}, "strong": {}} | content              # older runs do not say
    if set(content) != set(kinds) or not all(type(content[name]) is kind for name, kind in kinds.items()):
        expected = ", ".join(f"{name}: {kind.__name__}" for name, kind in kinds.items())
        raise RunError(f"{folder / 'config.json'} is not the config of a run; it should hold {expected}")
    return RunSpec(**content)


def load_run(folder: Path) -> tuple[RunSpec, Method, Domain, Domain]:
    """A stored run: its spec, its trained method, and its two domains. Raises RunError for whatever is not in order."""
    spec = load_spec(folder)
    source, target = load_pair(spec)
    method = build_method(spec, source)
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

def joined_record(folders: Iterable[Path]) -> dict:
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
    config = flat(build_config(without_seed[0]["method"], without_seed[0]["settings"]))
    return {"spec": without_seed[0], "config": config,
            "runs": [{"seed": r["spec"]["seed"], **r["metrics"]} for r in runs]}


OLD_NAMES = {"source": "source-only", "source-bare": "source-only-bare", "target": "target-only",
             "dann": "adversarial", "dann-bare": "adversarial-bare"}


def record_path(name: str, results: Path) -> Path:
    """Where a record lies: under ``name``, or under the other name that its variant has or had."""
    path, words = results / f"{name}.json", name.split("_")
    renamed = OLD_NAMES | {new: old for old, new in OLD_NAMES.items()}
    if path.exists() or len(words) != 3 or words[1] not in renamed:
        return path
    other = results / f"{words[0]}_{renamed[words[1]]}_{words[2]}.json"
    return other if other.exists() else path


def read_record(name: str, results: Path = Path("results")) -> dict:
    """A record by name from ``results``, which for a chapter is the folder beside it; old names will do."""
    return read_json(record_path(name, results))


def read_records(folder: Path, pattern: str) -> dict[Path, dict]:
    """The records in a folder whose file names match ``pattern``, by file, in the order of their names.

    It announces what it looks for, so that a record that comes later is known to matter.
    """
    sys.audit("cdlm.read_records", str(folder), pattern)
    return {path: read_json(path) for path in sorted(folder.glob(pattern))}


def metric_values(record: dict, metric: str = "target_accuracy") -> torch.Tensor:
    """One metric of all runs of a record, (runs,)."""
    return torch.tensor([run[metric] for run in record["runs"]], dtype=torch.float64)
