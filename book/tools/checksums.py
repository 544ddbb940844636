"""Checksums of files that no command makes again in a moment: records, figures, the ledger, the page's model, what was verified.

    python book/tools/checksums.py                    note what is new
    python book/tools/checksums.py --again NAME       note anew what was changed or removed on purpose, by part of its path
    python book/tools/checksums.py --check            fail on one byte of difference

One line for each file, sorted by path, in the form of ``sha256sum -c``. Tools that make such a file note it themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from program import finish

# isort: split
from disk import ChapterError, visible, write_atomically

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ("book/results/**/*.json", "book/verified.json", "book/draw/model.js", "cdlm/theory/ledger.json", "figures/*.svg",
            "requirements.lock")


def list_path(root: Path) -> Path:
    return root / "book" / "checksums.txt"


def recorded_files(root: Path) -> list[str]:
    """Paths of all files that have to be listed, from the root."""
    return [path.relative_to(root).as_posix() for pattern in RECORDED for path in visible(root, pattern) if path.is_file()]


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_list(root: Path) -> list[tuple[str, str]]:
    """Path and checksum of each line. Raises ChapterError for a line that has not this form."""
    path, found = list_path(root), []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise ChapterError(f"book/{path.name} is damaged: {line[:80]!r}; restore it from version control")
        found.append((name, digest))
    return found


def write_list(root: Path, lines: dict[str, str]) -> None:
    write_atomically(list_path(root), "".join(f"{digest}  {name}\n" for name, digest in sorted(lines.items())))


def keep_checksum(root: Path, file: Path) -> None:
    """Note a file that was just made. Raises ChapterError where the list is damaged."""
    write_list(root, dict(read_list(root)) | {file.relative_to(root).as_posix(): checksum(file)})


def differences(root: Path) -> tuple[list[str], list[str], list[str]]:
    """Paths of files that are not listed, that are not as listed, and that are listed and not there.

    Where two branches were joined, a file may be listed twice; it is as listed if one of the lines says so.
    """
    listed, there = read_list(root), recorded_files(root)
    known = {name for name, _ in listed}
    changed = [name for name in there if name in known and (name, checksum(root / name)) not in listed]
    return [name for name in there if name not in known], changed, sorted(known - set(there))


def problems(root: Path) -> list[str]:
    new, changed, gone = differences(root)
    found = [f"{name} is not listed in book/checksums.txt; `make seal`" for name in new]
    for names, what in ((changed, "is not what was recorded"), (gone, "was recorded and is gone")):
        found += [f"{name} {what}; restore it, or if that is meant, `make seal AGAIN={Path(name).stem}`" for name in names]
    listed = read_list(root)
    if not found and listed != sorted(dict(listed).items()):
        found = ["book/checksums.txt is not sorted, or lists a file twice; `make seal`"]
    return found


def seal(root: Path, again: str | None = None) -> list[str]:
    """Note what is new, and what is different where ``again`` is part of its path; paths of what was noted or taken out."""
    new, changed, gone = differences(root)
    meant = [name for name in [*changed, *gone] if again and again in name]
    if again and not meant:
        raise ChapterError(f"no recorded file with {again!r} in its path was changed or removed")
    there = recorded_files(root)
    fresh = [name for name in there if name in new or name in meant or name not in changed]
    kept = {name: digest for name, digest in read_list(root) if name not in meant}
    write_list(root, kept | {name: checksum(root / name) for name in fresh})
    return [*new, *meant]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on any difference")
    parser.add_argument("--again", metavar="NAME", default="", help="part of the path of what was changed or removed on purpose")
    options = parser.parse_args(arguments)
    try:
        for name in [] if options.check else seal(ROOT, options.again):
            print(f"{name}: noted")
        found = problems(ROOT)
    except ChapterError as error:
        found = [str(error)]
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(finish(main))
