"""Every equation of the paper, derived with symbols and tied to the function that computes it.

- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the
  functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and
  expectations by integration.
- ``cdlm.theory.moments``: Eqs. 1-6: the modulated code and its moments.
- ``cdlm.theory.divergence``: Eqs. 7-10: divergence between two codes, before and after
  modulation.
- ``cdlm.theory.partial``: Eqs. 11-15: partial modulations, and what they do to the divergence.
- ``cdlm.theory.joint_bound``: Eqs. 16-18: the joint bound, and what it bounds.
- ``cdlm.theory.updates``: Eqs. 20-22: from the bound to the losses and the updates.
- ``cdlm.theory.alignment``: Eqs. 19 and 24: the adversarial term, its optimum, and what it
  measures.
- ``cdlm.theory.bound``: Eq. 23: the bound on the target error, and the distances between
  domains in it.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still
  so.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
