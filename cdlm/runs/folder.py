"""Where a run lives: a folder that is worked in alone, and has its name when it is whole.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from cdlm.files import RunError, flush, read_json, sweep, write_json
from cdlm.runs.spec import RunSpec
from cdlm.training.checkpoints import compare_runs
from cdlm.training.team import Team
from cdlm.training.watch import Interrupted

__all__ = [
    "CHECKPOINT",
    "LOCK",
    "OWN_FILES",
    "SNAPSHOT_FILE",
    "check_free",
    "claim",
    "discard",
    "load_spec",
    "new_folder",
    "partial_of",
    "working_folder",
]


# 74_runs: Where a run lives until it is finished

CHECKPOINT, SNAPSHOT_FILE, LOCK = "checkpoint.safetensors", "snapshots.json", ".lock"
OWN_FILES = (CHECKPOINT, SNAPSHOT_FILE, LOCK, "config.json", "log.csv", "weights.safetensors",
             "metrics.json")


def partial_of(out: Path) -> Path:
    """The folder in which a run works until it can be called ``out``."""
    return out.with_name(f"{out.name}.partial")


def check_free(out: Path) -> None:
    """Raise RunError if ``out`` exists and is not an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already; name another folder, or remove it")


def claim(folder: Path, spec: RunSpec) -> None:
    """Make sure that a folder is empty, or of an unfinished run of ``spec``.

    Raises RunError for any other.
    """
    if (folder / "config.json").exists():
        there, here = asdict(load_spec(folder)), asdict(spec)
        if difference := compare_runs(there, here):
            raise RunError(f"{folder} holds another unfinished run: {difference}; give its "
                           "settings to resume it, name another folder, or remove it")
    elif others := [path.name for path in folder.iterdir()
                    if path.name not in OWN_FILES and path.name[0] != "."]:
        raise RunError(f"{folder} is needed to work in, and holds {others[0]}; "
                       "name another folder, or remove it")
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
    """The folder that a run of ``spec`` works in, alone; it becomes ``out`` when the block
    ends well.

    When it does not, the folder stays if there is a checkpoint in it. Raises RunError if
    another process is at work there, if it holds another run, if ``out`` is not free, or if it
    cannot be written.
    """
    check_free(out)
    folder = partial_of(out)
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another process is at work in {folder}; wait for it, "
                       "or name another folder") from None
    except OSError as error:
        raise RunError(
            f"cannot write to {folder}: {error.strerror}; name another folder") from None
    try:
        check_free(out)  # it may have been finished just now
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
            raise Interrupted(
                "interrupted; the same command resumes it from its last checkpoint") from None
        raise


def finish(folder: Path, out: Path, release: Callable[[], object]) -> None:
    """Remove what only a resumed run needs, and give the folder its name; ``release`` opens
    its lock where it must be open."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    (folder / SNAPSHOT_FILE).unlink(missing_ok=True)
    if os.name == "nt":  # where a folder with an open file cannot be renamed
        release()
    os.replace(folder, out)
    flush(out.parent)
    (out / LOCK).unlink(missing_ok=True)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the block ends well, and vanishes when it
    does not.

    Raises RunError if ``out`` exists and is not empty, or cannot be written.
    """
    check_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise RunError(
            f"cannot write to {out.parent}: {error.strerror}; name another folder") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def working_folder(out: Path, spec: RunSpec, kept: bool, team: Team) -> Iterator[Path]:
    """The folder that the first process of a team works in, and the others read from:
    partial_folder if it is ``kept``."""
    with ExitStack() as stack:
        begun, folder = False, partial_of(out)
        try:
            if team.rank == 0:
                folder = stack.enter_context(partial_folder(out, spec)
                                             if kept else new_folder(out))
            begun = True
        finally:
            together = team.all_agree(begun)
        if not together:
            raise RunError("the first process could not begin; it says why")
        yield folder


# 74_runs: Reading a run back

def load_spec(folder: Path) -> RunSpec:
    """What a stored run was asked."""
    content = read_json(folder / "config.json")
    kinds = {"method": str, "source": str, "target": str, "seed": int, "steps": int,
             "batch_size": int, "settings": dict, "size": str, "precision": str,
             "augment": dict, "strong": dict}
    # older runs do not say
    content = {"size": "sample", "precision": "float32", "augment": {}, "strong": {}} | content
    if set(content) != set(kinds) or not all(type(content[name]) is kind
                                             for name, kind in kinds.items()):
        expected = ", ".join(f"{name}: {kind.__name__}" for name, kind in kinds.items())
        raise RunError(
            f"{folder / 'config.json'} is not the config of a run; it should hold {expected}")
    return RunSpec(**content)
