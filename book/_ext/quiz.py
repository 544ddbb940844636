"""Self-checks in the text of a chapter: a directive whose content is data, shown as questions that need no server.

    :::{quiz}
    - kind: recall
      ask: Which term of the bound ...?
      right: The divergence.
      wrong:
      - The reconstruction.
      - The evidence.
      why: Because ...
    :::

``kind`` is "recall", "predict" (what ``code`` prints is the right answer) or "mistake" (``code`` has one). A question is
a fieldset of radio buttons, and its answer stands below in a ``details`` element: it works by keyboard, is read aloud as
what it is, and without JavaScript lacks only the word that says at once whether a choice was right.
"""

from __future__ import annotations

import hashlib
from html import escape
from pathlib import Path
from typing import NamedTuple

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from page_files import add_page_files
from sphinx.util.docutils import SphinxDirective

KINDS = {"recall": "Recall", "predict": "Predict the output", "mistake": "Find the mistake"}
# Not in book/_static: Jupyter Book would load each script there on every page.
STATIC = Path(__file__).with_name("quiz_static")


class Question(NamedTuple):
    """One question with exactly one right answer, and why it is right."""

    kind: str
    ask: str
    right: str
    wrong: tuple[str, ...]
    why: str
    code: str = ""

    def answers(self) -> list[str]:
        """All answers, in an order that is always the same and tells nothing."""
        return sorted([self.right, *self.wrong], key=lambda text: hashlib.sha256((self.ask + text).encode()).digest())


def fault(entry: object) -> str:
    """What is wrong with a question as data; "" if nothing is."""
    if not isinstance(entry, dict) or set(entry) - {"code"} != {"kind", "ask", "right", "wrong", "why"}:
        return "a question has kind, ask, right, wrong and why, and may have code"
    texts = [entry[name] for name in ("kind", "ask", "right", "why")] + [entry.get("code", "")]
    wrong = entry["wrong"]
    if not isinstance(wrong, list) or not all(isinstance(text, str) for text in [*texts, *wrong]):
        return "its parts are texts, and wrong is a list of them: put numbers in quotes"
    if entry["kind"] not in KINDS or (entry["kind"] == "recall") == bool(entry.get("code")):
        return f"kind is one of {', '.join(KINDS)}; the last two have code, and the first has none"
    answers = [" ".join(text.split()) for text in [entry["right"], *wrong]]
    if len(wrong) not in (2, 3) or len(set(answers)) != len(answers) or not all(answers):
        return "there is one right answer and two or three wrong ones, all different"
    return "" if len(entry["why"]) >= 40 else "why has to explain the answer"


def questions(text: str) -> list[Question]:
    """The questions of a quiz. Raises ValueError, with the question, for what is not one."""
    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"this quiz is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(entries, list):
        raise ValueError("a quiz is a list of questions")
    for number, entry in enumerate(entries, start=1):
        if found := fault(entry):
            raise ValueError(f"question {number} of this quiz: {found}")
    return [Question(**entry | {"wrong": tuple(entry["wrong"])}) for entry in entries]


def html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


class Quiz(SphinxDirective):
    """The directive ``quiz``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            asked = questions("\n".join(self.content))
        except ValueError as error:
            raise self.error(str(error)) from None
        self.env.metadata[self.env.docname]["quiz"] = "yes"
        made = []
        for number, question in enumerate(asked, start=1):
            made += self.show(question, f"quiz-{self.env.new_serialno('quiz')}", number)
        return made

    def parsed(self, text: str) -> nodes.inline:
        """Text of the book's markup, on a line."""
        holder = nodes.container()
        self.state.nested_parse(StringList(text.strip().splitlines(), source="quiz"), self.content_offset, holder)
        return nodes.inline("", "", *(child for paragraph in holder.children for child in paragraph.children))

    def show(self, question: Question, name: str, number: int) -> list[nodes.Node]:
        """The nodes of one question."""
        kind = escape(KINDS[question.kind])
        made = [html(f'<fieldset class="quiz"><legend><span class="quiz-kind">{number}. {kind}.</span> '),
                self.parsed(question.ask), html("</legend>")]
        if question.code:
            block = nodes.literal_block(question.code.strip(), question.code.strip(), language="python")
            made.append(block)
        for answer in question.answers():
            right = " data-right" if answer == question.right else ""
            made += [html(f'<label class="quiz-answer"><input type="radio" name="{name}"{right}> '),
                     self.parsed(answer), html("</label>")]
        made += [html('<p class="quiz-said" role="status"></p><details class="quiz-why"><summary>Answer</summary><p><strong>'),
                 self.parsed(question.right), html("</strong> "), self.parsed(question.why), html("</p></details></fieldset>")]
        return made


def setup(app):
    app.add_directive("quiz", Quiz)
    add_page_files(app, "quiz", STATIC, ("quiz.js",), ("quiz.css",))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
