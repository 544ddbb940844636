"""The register of ambiguities and deviations: every entry whole, every switch and every measurement there."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT
from dotted import unknown

PAGE = ROOT / "book/register.md"
KNOWN = range(1, 18)  # those that were known before the book was written
FIELDS = ["The paper says", "What is open or wrong", "We take", "The switch", "What it changes"]


def entries(text: str) -> dict[int, str]:
    """The text of each entry by its number, from its label to the next."""
    parts = re.split(r"^\(reg-(\d+)\)=\n", text, flags=re.M)
    return {int(number): re.split(r"^## ", part, flags=re.M)[0] for number, part in zip(parts[1::2], parts[2::2])}


def definitions(entry: str) -> list[tuple[str, str]]:
    """Terms and definitions of an entry, in order."""
    return re.findall(r"^(\S[^\n]*)\n: (.+?)(?=\n\n|\Z)", entry, flags=re.M | re.S)


def evidence(text: str) -> list[str]:
    """Chapters and records that are named, by file name."""
    chapters, records = re.findall(r"\]\((\w+)\.ipynb\)", text), re.findall(r"`(\w+-[\w-]+)`", text)
    return [f"book/src/{stem}.md" for stem in chapters] + [f"book/results/{name}.json" for name in records]


def problems(number: int, entry: str) -> list[str]:
    """What is missing or wrong in an entry."""
    found = []
    if not re.match(rf"### {number}\. \S", entry):
        found.append("the heading does not have the number of the label")
    terms = definitions(entry)
    if [term for term, _ in terms] != FIELDS:
        return [*found, f"fields are {[term for term, _ in terms]}"]
    says, _, _, switch, changes = (text for _, text in terms)
    if not re.search(r"Section|Eq|Table|Algorithm", says) and says != "Nothing.":
        found.append("what the paper says has no place in the paper")
    if "`cdlm." not in switch and "None yet" not in switch and "`" not in switch:
        found.append("no switch, and not said that there is none")
    if not re.match(r"Measured|Not measured yet|Nothing to measure|The equations only", changes):
        found.append("not said whether it was measured")
    if changes.startswith("Measured") and not evidence(changes):
        found.append("measured, but not said where")
    found += [f"{name} does not exist" for name in unknown(entry)]
    return found + [f"{path} does not exist" for path in evidence(entry) if not (ROOT / path).exists()]


TEXT = PAGE.read_text(encoding="utf-8")
ENTRIES = entries(TEXT)


@pytest.mark.parametrize("number", sorted(ENTRIES))
def test_an_entry_is_whole_and_names_what_exists(number: int) -> None:
    assert problems(number, ENTRIES[number]) == []


def test_all_known_entries_are_there_in_order() -> None:
    assert list(ENTRIES) == list(range(1, len(ENTRIES) + 1))
    assert set(KNOWN) <= set(ENTRIES)


def test_overview_has_each_entry_once() -> None:
    rows = re.findall(r"^\| \[(\d+)\]\(reg-(\d+)\) \| (.+?) \| (.+?) \| (.+?) \|$", TEXT, flags=re.M)
    assert [int(shown) for shown, *_ in rows] == list(ENTRIES)
    assert all(shown == label for shown, label, *_ in rows)
    for _, label, _, _, chapter in rows:
        for path in evidence(chapter):
            assert (ROOT / path).exists(), path
            link = path.removeprefix("book/src/").removesuffix(".md")
            assert f"({link}.ipynb)" in ENTRIES[int(label)], f"entry {label} does not mention {link}"


def test_chapters_refer_to_entries_that_exist() -> None:
    for text in sorted((ROOT / "book/src").glob("*.md")):
        for label in re.findall(r"\(reg-(\d+)\)", text.read_text(encoding="utf-8")):
            assert int(label) in ENTRIES, f"{text.stem}: reg-{label}"


# The test of the test

GOOD = """### 3. A title

The paper says
: "Words" (Section 3).

What is open or wrong
: Something.

We take
: This.

The switch
: `cdlm.methods.cdlm.CDLMConfig.of(reduction=...)`.

What it changes
: Measured in [the VAE](20_vae.ipynb), and `mnist-optdigits_cdlm`.
"""


def test_a_right_entry_passes() -> None:
    assert entries(f"# T\n\n(reg-3)=\n{GOOD}\n## Next\n\n(reg-4)=\nx") == {3: GOOD + "\n", 4: "x"}
    assert problems(3, GOOD) == []


@pytest.mark.parametrize("right, wrong, said", [
    ("### 3.", "### 4.", "heading"),
    ("We take\n: This.\n\n", "", "fields"),
    ("We take", "We took", "fields"),
    ("(Section 3)", "", "no place in the paper"),
    ("`cdlm.methods.cdlm.CDLMConfig.of(reduction=...)`", "soon", "no switch"),
    ("CDLMConfig.of(", "NoConfig.of(", "NoConfig.of does not exist"),
    ("reduction=", "seduction=", "seduction=...) does not exist"),
    ("cdlm.methods.cdlm.", "cdlm.nothing.cdlm.", "does not exist"),
    ("Measured in", "See", "whether it was measured"),
    ("[the VAE](20_vae.ipynb), and `mnist-optdigits_cdlm`", "a dream", "not said where"),
    ("20_vae", "21_vae", "21_vae.md does not exist"),
    ("mnist-optdigits_cdlm`", "mnist-usps_cdlm`", "mnist-usps_cdlm.json does not exist"),
])  # fmt: skip
def test_a_wrong_entry_is_found(right: str, wrong: str, said: str) -> None:
    assert right in GOOD
    found = problems(3, GOOD.replace(right, wrong))
    assert any(said in problem for problem in found), found
