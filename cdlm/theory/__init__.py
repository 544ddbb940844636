"""Theory:

- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and expectations by integration.
- ``cdlm.theory.objective``: Eqs. 16-18 and 20-22: from the joint bound to the losses and the updates.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still so.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
