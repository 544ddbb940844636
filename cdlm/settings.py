"""Settings of methods: checked against their annotations, composed of groups, flat on disk; and the images.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

__all__ = [
    "Amount",
    "Count",
    "Images",
    "Momentum",
    "Number",
    "S",
    "Settings",
    "Share",
    "Span",
    "check_settings",
    "flat",
    "from_flat",
    "is_group",
    "kinds_of",
    "refusal",
    "with_flat",
    "words_of",
]


# 74_runs: Settings

@dataclass(frozen=True)
class Span:
    """Finite numbers from ``low`` to ``high``, without ``high`` itself if it is ``open``."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value <= self.high and math.isfinite(value)
        return inside and not (self.open and value == self.high)

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {self.low:g} to {'below ' if self.open else ''}{self.high:g}"
        return "finite" + (f", and at least {self.low:g}" if self.low > -math.inf else "")


Number = Annotated[float, Span()]
Amount = Annotated[float, Span(0)]
Share = Annotated[float, Span(0, 1)]
Momentum = Annotated[float, Span(0, 1, open=True)]
Count = Annotated[int, Span(1)]
S = TypeVar("S", bound="Settings")


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
    wanted, *spans = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if type(value) is not wanted and not (wanted is float and type(value) is int):
        return f"of type {wanted.__name__}"
    return next((str(span) for span in spans if value not in span), "")


def check_settings(config: Settings) -> None:
    """Raise ValueError for the first field that holds what its annotation does not allow."""
    for name, kind in kinds_of(type(config)).items():
        if wanted := refusal(kind, value := vars(config)[name]):
            raise ValueError(f"{name} is {value!r}; it must be {wanted}")


class Settings:
    """Base of frozen data classes whose fields are settings, or groups: again such classes."""

    def __post_init__(self) -> None:
        check_settings(self)

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
            raise ValueError(f"{name} is no setting: channels, size and classes "
                             "follow from the images")
        if name not in known:
            raise ValueError(f"{type(config).__name__} has no setting {name!r}; "
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
