"""Whether the book knows the address of its repository, and setting it: ``python book/tools/publish.py [--set ADDRESS]``.

Install cells, launch buttons, README and the file that says how to cite all have the address of ``_config.yml``. As long as
that is a placeholder, pages have no buttons that lead to it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from program import finish

# isort: split
from address import PLACEHOLDER, is_placeholder
from disk import ChapterError, visible, write_atomically

ROOT = Path(__file__).resolve().parents[2]
SETTING = re.compile(r"^repository:\n  url: (\S+)$", flags=re.M)
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
PLACES = ("*.md", "*.cff", "*.yml", "book/*.md", "book/src/*.md", "book/course/**/*.md")
HIDDEN = ".github/ISSUE_TEMPLATE/config.yml"


def address() -> str:
    """The address that _config.yml has. Raises ChapterError if it has none."""
    found = SETTING.search((ROOT / "_config.yml").read_text(encoding="utf-8"))
    if not found:
        raise ChapterError("_config.yml has no `url` right below `repository:`; put it there")
    return found[1]


def mentions(of: str) -> Iterator[Path]:
    """Texts of authors in which an address stands."""
    whole = re.compile(re.escape(of) + r"(?![\w-])")
    for path in [*(path for pattern in PLACES for path in visible(ROOT, pattern)), ROOT / HIDDEN]:
        if path.is_file() and whole.search(path.read_text(encoding="utf-8")):
            yield path


def set_address(new: str) -> int:
    """Put a new address in the place of the one that is there, in all texts; returns their number. Raises ChapterError."""
    new = new.rstrip("/").removesuffix(".git")
    if not ADDRESS.fullmatch(new):
        raise ChapterError(f"{new!r} is no address like https://github.com/NAME/REPOSITORY")
    old = address()
    if old == new:
        return 0
    whole, count = re.compile(re.escape(old) + r"(?![\w-])"), 0
    for path in list(mentions(old)):
        text = path.read_bytes()
        write_atomically(path, whole.sub(new, text.decode("utf-8")), instead_of=text)
        count += 1
    return count


def report() -> list[str]:
    """What stands in the way of publishing; nothing if the address is set, and is the same everywhere."""
    here = address()
    if is_placeholder(here):
        return [f"The book does not know its address: {here} in _config.yml is a placeholder.",
                "Until it is set, pages have no buttons for Colab, Binder and the repository, and a notebook on Colab cannot",
                "install the package. Set it with",
                "    make publish-check ADDRESS=https://github.com/NAME/REPOSITORY",
                "    make sync seal check"]
    left = [path.relative_to(ROOT).as_posix() for path in mentions(PLACEHOLDER)]
    return [f"{path} still has the placeholder {PLACEHOLDER}" for path in left]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--set", metavar="ADDRESS", help="put this address in all texts")
    words = parser.parse_args()
    if words.set:
        print(f"{set_address(words.set)} texts changed; now say `make sync seal check`")
    found = report()
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    print(f"The book lives at {address()}, and all texts say so. Its buttons are shown; whether they work shows on the first push.")
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
