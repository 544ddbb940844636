"""Data:

- ``cdlm.data.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.data.domains``: What the domains are, where their images come from, and how they are split.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
