"""Theory:

- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and expectations by integration.
- ``cdlm.theory.bound``: Eq. 23: the bound on the target error, and the distances between domains in it.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still so.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
