"""All methods by name, each with the class of its settings.

Generated from book/src/90_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from cdlm.methods.base import Method
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.methods.dann import DANN, DANNConfig
from cdlm.methods.improved import ImprovedCDLM, ImprovedConfig
from cdlm.methods.mcd import MCD, MCDConfig
from cdlm.methods.plain import Plain, PlainConfig
from cdlm.methods.source import SourceConfig, SourceOnly

__all__ = ["METHODS"]


# 90_runs: What defines a run

METHODS: dict[str, tuple[type[Method], type]] = {
    "cdlm": (CDLM, CDLMConfig),
    "improved": (ImprovedCDLM, ImprovedConfig),
    "source": (SourceOnly, SourceConfig),
    "dann": (DANN, DANNConfig),
    "plain": (Plain, PlainConfig),
    "mcd": (MCD, MCDConfig),
}
