"""Settings of methods: checked against their annotations, composed of groups, flat on disk; and the images.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from cdlm.files import RunError

__all__ = [
    "Amount",
    "Count",
    "Images",
    "LARGEST",
    "Length",
    "Momentum",
    "Number",
    "S",
    "Seed",
    "SettingError",
    "Settings",
    "Share",
    "Span",
    "Width",
    "check_fields",
    "flat",
    "from_flat",
    "is_group",
    "kinds_of",
    "quoted",
    "refusal",
    "with_flat",
    "words_of",
]


# 74_runs: Settings

LARGEST = sys.float_info.max            # among whole numbers there are larger ones


@dataclass(frozen=True)
class Span:
    """Finite numbers from ``low`` to ``high``, without ``high`` itself if it is ``open``."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value <= self.high and abs(value) <= LARGEST
        return inside and not (self.open and value == self.high)

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {self.low} to {'below ' if self.open else ''}{self.high}"
        return "finite" + (f", and at least {self.low:g}" if self.low > -math.inf else "")


Number = Annotated[float, Span()]
Amount = Annotated[float, Span(0)]
Share = Annotated[float, Span(0, 1)]
Momentum = Annotated[float, Span(0, 1, open=True)]
Count = Annotated[int, Span(1, 2**16)]
Width = Annotated[int, Span(1, 512)]    # channels of a first convolution
Length = Annotated[int, Span(1, 4096)]  # of a code
Seed = Annotated[int, Span(0, 2**63 - 1)]
S = TypeVar("S", bound="Settings")


class SettingError(RunError, ValueError):
    """Settings that cannot be; the message says what they must be."""


@cache
def kinds_of(cls: type) -> dict[str, object]:
    """The annotation of each field of a data class, by name."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def refusal(kind: object, value: object) -> str:
    """What a value would have to be that an annotation does not allow; "" if it is allowed."""
    if get_origin(kind) is Literal:
        words = get_args(kind)
        known = type(value) is type(words[0]) and value in words
        return "" if known else "one of " + ", ".join(map(str, words))
    wanted, *spans = get_args(kind) if get_origin(kind) is Annotated else (
        get_origin(kind) or kind,)
    if type(value) is not wanted and not (wanted is float and type(value) is int):
        return f"of type {wanted.__name__}"
    return next((str(span) for span in spans if value not in span), "")


def quoted(value: object, most: int = 60) -> str:
    """A value as a message quotes it: in one line, of at most ``most`` letters."""
    try:
        text = repr(value)
    except ValueError:                  # more digits than Python wants to print
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[:most]}..."


def check_fields(config: object) -> None:
    """Raise SettingError for the first field of a data class that holds what its annotation
    does not allow."""
    for name, kind in kinds_of(type(config)).items():
        if wanted := refusal(kind, value := vars(config)[name]):
            raise SettingError(f"{name} is {quoted(value)}; it must be {wanted}")


class Settings:
    """Base of frozen data classes whose fields are settings, or groups: again such classes."""

    def __post_init__(self) -> None:
        check_fields(self)
        if wrong := self.conflict():
            raise SettingError(wrong)

    def conflict(self) -> str:
        """What of these settings does not go together, in a sentence; "" if all does."""
        return ""

    @classmethod
    def of(cls, **settings: object) -> Self:
        """All defaults but for ``settings`` by name, whatever their group;
        raises ValueError."""
        return from_flat(cls, settings)

    def but(self, **settings: object) -> Self:
        """The same but for ``settings`` by name, whatever their group; raises ValueError."""
        return with_flat(self, settings)


def is_group(kind: object) -> bool:
    """Whether an annotation is a group of settings."""
    return get_origin(kind) is None and issubclass(kind, Settings)


def flat(config: Settings) -> dict[str, object]:
    """All settings by name, those of the groups among them."""
    found = {}
    for name, kind in kinds_of(type(config)).items():
        found |= flat(vars(config)[name]) if is_group(kind) else {name: vars(config)[name]}
    return found


@dataclass(frozen=True)
class Images(Settings):
    """What a method has to know of its images: channels, height and width, number
    of classes."""

    channels: Count = 1
    size: Literal[28, 32, 64] = 28
    classes: Count = 10


def with_flat(config: S, settings: Mapping[str, object]) -> S:
    """``config`` with some settings of it, or of its groups, replaced.

    Raises ValueError for a name that is none of them, and for what a setting cannot be.
    """
    known = flat(config)
    for name in settings:
        if name in kinds_of(Images):
            raise SettingError(f"{name} is no setting: channels, size and classes "
                               "follow from the images")
        if name not in known:
            raise SettingError(f"{type(config).__name__} has no setting {quoted(name)}; "
                               f"it has: {', '.join(known)}")
    changed = {name: settings[name] for name in vars(config) if name in settings}
    for name, kind in kinds_of(type(config)).items():
        if is_group(kind):
            group = vars(config)[name]
            changed[name] = with_flat(group,
                                      {k: settings[k] for k in flat(group) if k in settings})
    return replace(config, **changed)


def from_flat(cls: type[S], settings: Mapping[str, object]) -> S:
    """The defaults with some settings replaced, by name; raises ValueError as
    with_flat does."""
    return with_flat(cls(), settings)


def words_of(cls: type[Settings]) -> dict[str, tuple]:
    """The words of each setting that has a list of them, by name."""
    found = {}
    for name, kind in kinds_of(cls).items():
        if get_origin(kind) is Literal:
            found[name] = get_args(kind)
        elif is_group(kind):
            found |= words_of(kind)
    return found
