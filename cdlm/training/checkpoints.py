"""The state of a training in one file, written whole or not at all, and read without trusting it.

Generated from book/src/73_long_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cdlm.files import fault_of, parse_json, plain_size, replacing
from cdlm.shapes import LogRow

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FORMAT",
    "MAX_CHECKPOINT_BYTES",
    "before_of",
    "check_note",
    "compare_runs",
    "content_digest",
    "join_state",
    "keep_before",
    "open_checkpoint",
    "read_checkpoint",
    "split_state",
    "way_back",
    "write_checkpoint",
    "write_tensors",
]


# 73_long_runs: What a run is, between two steps

class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read, or belongs elsewhere; the message says what to
    do."""


def split_state(value: object, tensors: dict[str, Tensor], place: str = "state") -> object:
    """``value``, nested dicts and lists, as plain JSON; each tensor in it goes to ``tensors``
    under its place, on the CPU.

    Raises TypeError for anything else than tensors, numbers, words, None, and lists and dicts
    of such.
    """
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {"items": [[key, split_state(part, tensors, f"{place}/{key}")]
                          for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [split_state(part, tensors, f"{place}/{number}")
                for number, part in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}, which no checkpoint can hold")


def join_state(tree: object, tensors: Mapping[str, Tensor]) -> object:
    """The inverse of split_state, up to tuples, which come back as lists.

    Raises ValueError or KeyError for other trees.
    """
    if isinstance(tree, list):
        return [join_state(part, tensors) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {"tensor"}:
        return tensors[tree["tensor"]]
    if set(tree) != {"items"}:
        raise ValueError(f"a branch has the keys {', '.join(map(str, tree))}")
    return {key: join_state(part, tensors) for key, part in tree["items"]}


# 73_long_runs: One file

FORMAT = 1  # of what stands in a checkpoint; changes when the meaning of its parts does
MAX_CHECKPOINT_BYTES = 2**33


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps.

    ``run`` says in plain values what it belongs to, ``state`` holds all tensors, nested.
    """

    run: dict[str, object]
    step: int
    log: list[dict[str, float]]
    state: dict[str, object]
    seconds: float = 0.0                # that were spent on it until here
    makers: list[dict] = field(default_factory=list)  # code and engines, each until a step


def content_digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 over names, kinds, shapes and values of tensors on the CPU, and a ``text``, as
    64 hexadecimal digits."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor],
                  metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, as for a disk that is full."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from None


def before_of(path: Path) -> Path:
    """Where the checkpoint lies that was at ``path`` before the last one."""
    return path.with_name(f".before.{path.name}")


def keep_before(path: Path) -> None:
    """Give what lies at ``path`` a second name, that of ``before_of``, if the file system
    can."""
    with suppress(OSError):
        before_of(path).unlink(missing_ok=True)
        os.link(path, before_of(path))


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it whole or not at all; the one that was there is kept as ``before_of``.

    Raises CheckpointError, and leaves the old one, where that is impossible or senseless.
    """
    tensors = {}
    note = asdict(replace(checkpoint, state={})) | {
        "format": FORMAT, "torch": torch.__version__,
        "state": split_state(checkpoint.state, tensors)}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{name} is not finite after step {checkpoint.step}: no checkpoint is written")
    text = json.dumps(note, allow_nan=False)
    try:
        with replacing(path) as temporary:
            write_tensors(temporary, tensors,
                          {"cdlm": text, "sha256": content_digest(tensors, text)})
            keep_before(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room or name another folder") from None


def compare_runs(there: Mapping[str, object], here: Mapping[str, object]) -> str:
    """In which values two runs differ, such as "seed is 1 there and 0 here"; empty if in none.
    """
    def words(run: Mapping[str, object], name: str) -> str:
        return repr(run[name]) if name in run else "not given"
    names = [*here, *(name for name in there if name not in here)]
    return "; ".join(f"{name} is {words(there, name)} there and {words(here, name)} here"
                     for name in names
                     if name not in there or name not in here or there[name] != here[name])


def check_note(path: Path, note: object, run: Mapping[str, object] | None) -> dict:
    """The header of a checkpoint, if it is one, of this version, and of this ``run``; else
    raises CheckpointError."""
    kinds = {"run": dict, "step": int, "log": list, "seconds": float, "torch": str,
             "state": dict, "makers": list}
    if isinstance(note, dict):  # older ones do not say who made them
        note = {"makers": [{"until": note.get("step"),
                            "packages": {"torch": note.get("torch")}}]} | note
    known = note.get("format") if isinstance(note, dict) else None
    if type(known) is int and known != FORMAT:
        age = "a newer" if known > FORMAT else "an older"
        raise CheckpointError(
            f"{path} was written by {age} version of cdlm (format {known}, "
            f"this one reads {FORMAT}): go on with that version, or remove it to start again")
    if (type(known) is not int or fault_of(note.get("log"), list[LogRow])
        or not all(type(note.get(name)) is kind for name, kind in kinds.items())
        or not all(isinstance(maker, dict) for maker in note["makers"])):
        raise CheckpointError(f"{path} is no checkpoint of cdlm; "
                              "remove it to start the run again, or restore it")
    if run is not None and (difference := compare_runs(note["run"], run)):
        raise CheckpointError(f"{path} belongs to another run: {difference}; "
                              "give the same settings, or remove it")
    return note


def open_checkpoint(path: Path) -> tuple[object, dict[str, Tensor]]:
    """The header of a checkpoint, not looked at, and its tensors, whose checksum is right.

    Raises SafetensorError or ValueError for what is damaged, OSError for what is no file.
    """
    if plain_size(path) > MAX_CHECKPOINT_BYTES:
        raise CheckpointError(f"{path} has more than {MAX_CHECKPOINT_BYTES} bytes; "
                              "it is no checkpoint of ours")
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    text = about.get("cdlm", "null")
    if "sha256" in about and about["sha256"] != content_digest(tensors, text):
        raise ValueError("its checksum is another")
    return parse_json(text), tensors


def read_checkpoint(path: Path, run: Mapping[str, object] | None = None) -> Checkpoint:
    """Read a checkpoint of this ``run`` (None: of any).

    Nothing in it is executed. Raises CheckpointError otherwise.
    """
    try:
        note, tensors = open_checkpoint(path)
        note = check_note(path, note, run)
        return Checkpoint(note["run"], note["step"], note["log"],
                          join_state(note["state"], tensors), note["seconds"],
                          note["makers"])
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointError(f"{path} is damaged, or no checkpoint: {way_back(path)}"
                              "remove it to start the run again, or restore it") from None


def way_back(path: Path) -> str:
    """What to say of the checkpoint before a damaged one, if it is whole."""
    try:
        before = before_of(path)
        step = read_checkpoint(before).step if path.name[0] != "." else 0
    except CheckpointError:
        return ""
    way = f"the one of step {step} is whole, rename {before} to go on from it; or "
    return way if step else ""
