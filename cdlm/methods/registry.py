"""All methods by name, each with the class of its settings.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields

from cdlm.data.augment import Augment
from cdlm.files import RunError
from cdlm.methods.adamatch import AdaMatch, AdaMatchConfig
from cdlm.methods.base import Method
from cdlm.methods.cdan import CDAN, CDANConfig
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.cdrd import CDRD, CDRDConfig
from cdlm.methods.cycada import CyCADA, CyCADAConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.datl import DATL, DATLConfig
from cdlm.methods.ecdrd import ECDRD, ECDRDConfig
from cdlm.methods.gta import GtA, GtAConfig
from cdlm.methods.ilada import ILADA, ILADAConfig
from cdlm.methods.improved import ImprovedCDLM, ImprovedConfig
from cdlm.methods.mcc import MCC, MCCConfig
from cdlm.methods.mcd import MCD, MCDConfig
from cdlm.methods.pixelda import PixelDA, PixelDAConfig
from cdlm.methods.plain import Plain, PlainConfig
from cdlm.methods.shot import SHOT, SHOTConfig
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.methods.stargan import StarGAN, StarGANConfig
from cdlm.methods.symmnets import SymmNets, SymmNetsConfig
from cdlm.methods.tpn import TPN, TPNConfig
from cdlm.methods.unit import UNIT, UNITConfig
from cdlm.settings import Settings, from_flat, quoted

__all__ = ["METHODS", "Noted", "build_augment", "build_config"]


# 74_runs: What defines a run

class Noted(dict):
    """A table of things by name that announces which of its entries are looked up, so that a
    result depends on these and not on all."""

    def __init__(self, place: str, entries: dict[str, object]) -> None:
        super().__init__(entries)
        self.place = place          # the dotted name of the table

    def __getitem__(self, name: str) -> object:
        """An entry, announced. Raises KeyError for one that is not there."""
        sys.audit("cdlm.lookup", self.place, name)
        return super().__getitem__(name)

    def get(self, name: str, default: object = None) -> object:
        """An entry, announced, or ``default``."""
        return self[name] if name in self else default

    def items(self) -> list[tuple[str, object]]:
        """Names and entries, all of them announced."""
        return [(name, self[name]) for name in self]

    def values(self) -> list[object]:
        """Entries, all of them announced."""
        return [self[name] for name in self]


METHODS: Mapping[str, tuple[type[Method], type]] = Noted("cdlm.methods.registry.METHODS", {
    "cdlm": (CDLM, CDLMConfig),
    "improved": (ImprovedCDLM, ImprovedConfig),
    "source": (SourceOnly, SourceConfig),
    "dann": (DANN, DANNConfig),
    "plain": (Plain, PlainConfig),
    "mcd": (MCD, MCDConfig),
    "cdan": (CDAN, CDANConfig),
    "mcc": (MCC, MCCConfig),
    "shot": (SHOT, SHOTConfig),
    "adamatch": (AdaMatch, AdaMatchConfig),
    "tpn": (TPN, TPNConfig),
    "symmnets": (SymmNets, SymmNetsConfig),
    "ilada": (ILADA, ILADAConfig),
    "pixelda": (PixelDA, PixelDAConfig),
    "gta": (GtA, GtAConfig),
    "cycada": (CyCADA, CyCADAConfig),
    "unit": (UNIT, UNITConfig),
    "cdrd": (CDRD, CDRDConfig),
    "ecdrd": (ECDRD, ECDRDConfig),
    "datl": (DATL, DATLConfig),
    "stargan": (StarGAN, StarGANConfig),
})


def build_config(method: str, settings: dict[str, object]) -> Settings:
    """The method's config with ``settings`` in place.

    Raises RunError for unknown methods and names, wrong types and values.
    """
    if method not in METHODS:
        raise RunError(f"unknown method {quoted(method)}; known: {', '.join(METHODS)}")
    return from_flat(METHODS[method][1], settings)


def build_augment(settings: dict[str, float]) -> Augment | None:
    """The random changes of a run, None for none.

    Raises RunError for names there are not and for what they cannot be.
    """
    known = [change.name for change in fields(Augment)]
    for name in settings:
        if name not in known:
            raise RunError(
                f"images cannot be augmented by {quoted(name)}; there is: {', '.join(known)}")
    return Augment(**settings) if settings else None
