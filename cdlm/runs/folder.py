"""Where a run lives: a folder that is worked in alone, and has its name when it is whole.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from cdlm.files import RunError, flush, read_json, sweep, write_json
from cdlm.runs.spec import RunSpec, located
from cdlm.settings import SettingError
from cdlm.shapes import RunConfig
from cdlm.training.checkpoints import before_of, compare_runs
from cdlm.training.team import Team
from cdlm.training.watch import Interrupted

__all__ = [
    "CHECKPOINT",
    "LOCK",
    "METRICS",
    "OWN_FILES",
    "SNAPSHOT_FILE",
    "UNFINISHED",
    "WEIGHTS",
    "check_free",
    "check_movable",
    "check_partial",
    "claim",
    "discard",
    "is_whole",
    "load_spec",
    "partial_of",
    "working_folder",
]


# 74_runs: Where a run lives until it is finished

CHECKPOINT, SNAPSHOT_FILE, LOCK = "checkpoint.safetensors", "snapshots.json", ".lock"
WEIGHTS, METRICS = "weights.safetensors", "metrics.json"
UNFINISHED = (CHECKPOINT, before_of(Path(CHECKPOINT)).name, SNAPSHOT_FILE, LOCK)
OWN_FILES = (*UNFINISHED, "config.json", "log.csv", WEIGHTS, METRICS)


def partial_of(out: Path) -> Path:
    """The folder in which a run works until it can be called ``out``."""
    return out.parent / f"{out.name}.partial"


def is_whole(folder: Path) -> bool:
    """Whether all of a run is in the folder that it works in: its metrics are written last."""
    return (folder / METRICS).exists()


def check_free(out: Path) -> None:
    """Raise RunError if a folder cannot be renamed to ``out``, an absolute path."""
    if out.is_symlink():
        raise RunError(f"{out} is a link to {os.readlink(out)}; name another folder")
    if out in (here := Path.cwd(), *here.parents):
        raise RunError(f"{out} is the folder you are in, or above it; "
                       f"name a new folder, such as {out / 'run'}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already; name another folder, or remove it")
    if out.is_dir():
        check_movable(out)


def check_movable(folder: Path) -> None:
    """Raise RunError for an empty folder that nothing can be renamed to, such as a mount
    point."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        os.rename(folder, aside)
        os.rename(aside, folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be replaced ({error.strerror}); perhaps it is a "
                       f"mount point: name a new folder, such as {folder / 'run'}") from None


def check_partial(folder: Path) -> None:
    """Raise RunError for a folder that must not be worked in: behind a link, a finished run
    that is called so, or one of something else."""
    if folder.is_symlink():
        raise RunError(f"{folder} is needed to work in, and is a link; "
                       "name another folder, or remove it")
    if is_whole(folder) and not (folder / LOCK).exists():
        raise RunError(f"{folder} is needed to work in, and is a finished run; "
                       "name another folder, or rename that one")
    others = [path.name for path in (folder.iterdir() if folder.is_dir() else ())
              if path.name != CHECKPOINT and path.name[0] != "."]
    if others and not (folder / "config.json").exists():
        raise RunError(f"{folder} is needed to work in, and holds {others[0]}; "
                       "name another folder, or remove it")


def claim(folder: Path, spec: RunSpec, kept: bool) -> None:
    """Take a folder for a run of ``spec``.

    Raises RunError for one of another unfinished run, and for one with a checkpoint if none is
    to be ``kept``.
    """
    if (folder / "config.json").exists():
        there, here = asdict(load_spec(folder)), asdict(spec)
        there |= {side: located(there[side]) for side in ("source", "target")}
        if difference := compare_runs(there, here):
            raise RunError(f"{folder} holds another unfinished run: {difference}; give its "
                           "settings to resume it, name another folder, or remove it")
    if not kept and (folder / CHECKPOINT).exists():
        raise RunError(f"{folder} holds a checkpoint of this run; keep checkpoints to go on "
                       "from it, or remove it")
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
def partial_folder(out: Path, spec: RunSpec, kept: bool) -> Iterator[Path]:
    """The folder that a run of ``spec`` works in, alone; it becomes ``out``, an absolute path,
    when the block ends well.

    When it does not, the folder stays if there is a checkpoint in it, or all of the run.
    Raises RunError if another process is at work there, if it holds another run, if ``out`` is
    not free, or if it cannot be written.
    """
    folder = partial_of(out)
    lock = FileLock(folder / LOCK)
    try:
        check_free(out)
        check_partial(folder)
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
        claim(folder, spec, kept)
        with kept_if_needed(folder, out):
            yield folder
            finish(folder, out, lock.release)
    finally:
        lock.release()


@contextmanager
def kept_if_needed(folder: Path, out: Path) -> Iterator[None]:
    """Remove the folder if the block fails and nothing in it is worth to go on from; else say
    where it is."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if there := what_is_left(folder, out):
            raise Interrupted(f"interrupted; {there}") from None
        raise
    except OSError as error:
        cause = error.strerror or str(error)
        if there := what_is_left(folder, out):
            raise RunError(f"cannot write: {cause}; {there}") from None
        raise RunError(f"cannot write to {folder}: {cause}; make room, or name another folder"
                       ) from None
    except BaseException:
        what_is_left(folder, out)
        raise


def what_is_left(folder: Path, out: Path) -> str:
    """What there is of a run that was stopped: "" if its folder had nothing to go on from,
    and was removed."""
    if not folder.exists():
        return f"the run is whole in {out}"
    if is_whole(folder):
        return (f"the run is whole in {folder}, and the same command makes it {out} "
                "when that is free")
    if (folder / CHECKPOINT).exists():
        return "the same command resumes it from its last checkpoint"
    discard(folder)
    return ""


def finish(folder: Path, out: Path, release: Callable[[], object]) -> None:
    """Give the folder its name, and remove what only a resumed run needs; ``release`` opens
    its lock where it must be open."""
    if os.name == "nt":  # where a folder with an open file cannot be renamed
        release()
    os.replace(folder, out)
    with suppress(OSError):  # the run is whole: what is left over in it does no harm
        flush(out.parent)
        for name in UNFINISHED:
            (out / name).unlink(missing_ok=True)


@contextmanager
def working_folder(out: Path, spec: RunSpec, kept: bool, team: Team) -> Iterator[Path]:
    """The folder that the first process of a team works in, and the others read from; see
    partial_folder. ``kept`` says whether there will be checkpoints."""
    with ExitStack() as stack:
        begun, folder = False, partial_of(out)
        try:
            if team.rank == 0:
                folder = stack.enter_context(partial_folder(out, spec, kept))
            begun = True
        finally:
            together = team.all_agree(begun)
        if not together:
            raise RunError("the first process could not begin; it says why")
        yield folder


# 74_runs: Reading a run back

def load_spec(folder: Path) -> RunSpec:
    """What a stored run was asked."""
    content = read_json(folder / "config.json", RunConfig)
    try:
        return RunSpec(**{"size": "sample"} | content)      # older runs do not say
    except SettingError as error:
        raise RunError(f"{folder / 'config.json'} is damaged: {error}") from None
