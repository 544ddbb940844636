"""Cross-domain latent modulation, as taught in the book.

- ``cdlm.profile``: How much of a computation to run: seconds for tests, a minute for the book, hours for the paper's sizes.
- ``cdlm.plotting``: One style for all figures, and the few kinds of picture the book draws again and again.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

__version__ = "0.1.0"
