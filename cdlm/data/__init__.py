"""Data:

- ``cdlm.data.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.data.domains``: What the domains are, where their images come from, and how they are
  split.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.
- ``cdlm.data.archives``: Reading files of others without trusting them, and writing so that
  nobody reads a half.
- ``cdlm.data.cache``: Arrays made once and mapped into memory.
- ``cdlm.data.sources``: Where data come from: the order of the search, and downloads.
- ``cdlm.data.pictures``: Image files of every kind as bytes of one size.
- ``cdlm.data.recipes``: What a domain tells of itself, and the story of how it was got.
- ``cdlm.data.whole``: The whole sets of digits and clothes, plain and blended into
  photographs.
- ``cdlm.data.render``: Colored meshes drawn at any pose: a pinhole camera and a z-buffer over
  points.
- ``cdlm.data.sketch``: Drawings of photographs: pencil sketches by color dodge, edges by
  Canny.
- ``cdlm.data.bop``: LineMod in the layout of BOP: renders of its models, crops of its frames.
- ``cdlm.data.pairs``: Faces and their sketches, shoes and their edges.
- ``cdlm.data.catalog``: All domains by name, any folder as a domain, and what is there.
- ``cdlm.data.augment``: Random changes to a batch, in one pass on its device.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
