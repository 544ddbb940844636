"""Turns of phrase at which readers stopped, and which the prose no longer uses; each with what is said instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from test_notebooks import PAGES, prose

START = r"(?:(?<=[.!?:] )|^)"  # of a sentence


class Phrase(NamedTuple):
    """A regular expression, why it is avoided, a sentence that it catches, and a near one that it must not catch."""

    pattern: str
    why: str
    caught: str
    fine: str


PHRASES = (
    Phrase(r"\bsuch and such\b", "says nothing: name the thing", "at such and such a step", "such a step and such a rate"),
    Phrase(r"\bhas an? \w+ each\b", "'each' needs a plural: 'each fault has a name'",
           "What can go wrong has a name each.", "The runs have a record each."),
    Phrase(START + r"Who [^.?!\n]+\.(?=\s|$)", "no subject of a statement: 'a network that', 'anyone who', 'if you'",
           "It ends. Who has learned to read can read.", "Who judges? The classifier."),
    Phrase(START + r"Whoever\b", "archaic as a subject: 'anyone who', or 'to do it, ...'",
           "Whoever claims it has to show it.", "It leaves a gradient, whoever moves in that round."),
    Phrase(START + r"(?:Stands|Lies|Hangs|Remains|Follows|Stays|Belongs) [a-z]", "the subject comes before its verb",
           "Stands in the table what was left out.", "The table shows what stands where."),
    Phrase(START + r"(?:Printed|Paid for|Decoded|Dotted|New) is\b", "a predicate turned around: 'what is printed is'",
           "Two remarks. Printed is the feature of one image.", "What is printed is the feature of one image."),
    Phrase(r"\bnot said is\b", "a predicate turned around: 'how is not said'", "not said is how", "how is not said"),
    Phrase(r"\b(?:thereof|thereafter|whereof|therein|wherein|therewith|whence|hitherto)\b", "archaic",
           "it rises, and falls thereafter", "it rises, and falls after that"),
    Phrase(r"\b(?:not to be had|(?:is|was) had)\b", "'cannot be had', 'follows', 'is obtained'",
           "a second derivative is not to be had", "it can be had for free; if it had been"),
    Phrase(r"\bsame but for\b", "'except for'", "all networks are the same but for one layer",
           "the shortest form, but for equal ones a difference"),
    Phrase(r"\b(?:something else|anything else|another \w+) than\b", "'other than', 'different from'",
           "something else than arithmetic", "something other than arithmetic, another step, then"),
    Phrase(r"\bblind for\b", "'blind to'", "it is blind for a move", "it is blind to a move"),
    Phrase(r"\bmultipl(?:y|ies|ied) with\b", "'by'", "multiplied with 16 entries", "multiplied by 16 entries"),
    Phrase(r"\bdoes otherwise\b", "'differently'", "what CDLM does otherwise", "otherwise it does nothing"),
    Phrase(r"\bhalf[ -]way\b|\bturns? round\b|\blast but one\b", "not American: 'halfway', 'around', 'second to last'",
           "stopped half-way", "stopped halfway, half the way"),
    Phrase(r"\bin any case not\b", "'at least not'", "it cannot, in any case not there", "not in any case"),
    Phrase(r"\b(?!that |had )([a-z]+) \1\b(?!-)", "a word twice", "of the the image", "what that that is, and had had"),
)  # fmt: skip


def found(text: str) -> list[str]:
    """Every phrase of the list in ``text``, with the reason against it."""
    return [f"{match[0]!r}: {why}" for pattern, why, *_ in PHRASES for match in re.finditer(pattern, text, flags=re.M)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_prose_has_no_phrase_at_which_readers_stop(page: Path) -> None:
    """Quotations are as they were written."""
    assert found(re.sub(r'"[^"\n]*"', " ", prose(page))) == []


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.caught)
def test_a_phrase_is_caught_and_its_neighbor_is_not(phrase: Phrase) -> None:
    assert re.search(phrase.pattern, phrase.caught, flags=re.M) and not re.search(phrase.pattern, phrase.fine, flags=re.M)
    assert found(phrase.fine) == []
