"""Theory:

- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and expectations by integration.
- ``cdlm.theory.alignment``: Eqs. 19 and 24: the adversarial term, its optimum, and what it measures.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still so.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
