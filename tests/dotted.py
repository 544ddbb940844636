"""What pages say of the package by name: ``cdlm.model.modulation.modulate(gamma1=...)`` is looked up."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module

from cdlm.settings import Settings, flat


def resolve(place: str) -> object:
    """The module, function, class or method of a dotted name. Raises ImportError or AttributeError if there is none."""
    parts = place.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        try:
            thing = import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part)
        return thing
    raise ImportError(f"nothing is called {place}")


def arguments(thing: object) -> set[str]:
    """Names of a function's parameters, of a data class's fields, or of all that settings can be made ``of``."""
    if isinstance(owner := getattr(thing, "__self__", None), type) and issubclass(owner, Settings):
        return set(flat(owner()))
    return {field.name for field in fields(thing)} if is_dataclass(thing) else set(inspect.signature(thing).parameters)


def unknown(text: str) -> list[str]:
    """Dotted names of the package in code of ``text``, alone or with arguments, that do not exist."""
    missing = []
    for place, call in re.findall(r"`(cdlm(?:\.\w+)+)(?:\(([^)`]*)\))?`", text):
        try:
            thing = resolve(place)
        except (ImportError, AttributeError):
            missing.append(place)
            continue
        named = set(re.findall(r"(\w+)=", call))
        if named:
            missing += [f"{place}({name}=...)" for name in sorted(named - arguments(thing))]
    return missing
