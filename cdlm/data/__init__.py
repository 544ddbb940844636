"""Images as bytes: what a domain is, how files are found, read, kept, and fed to a network.

- ``cdlm.data.archives``: Reading files of others without trusting them, and writing so that
  nobody reads a half.
- ``cdlm.data.cache``: Arrays made once and mapped into memory.
- ``cdlm.data.search``: Where data come from: the order of the search, and downloads.
- ``cdlm.data.domain``: What a domain is: its splits, its classes, what it tells of itself, and
  what to say when it is missing.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.
- ``cdlm.data.augment``: Random changes to a batch, in one pass on its device.
- ``cdlm.data.pictures``: Image files of every kind as bytes of one size.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
