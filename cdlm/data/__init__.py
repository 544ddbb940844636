"""Data:

- ``cdlm.data.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.data.domains``: What the domains are, where their images come from, and how they are split.
- ``cdlm.data.render``: Colored meshes drawn at any pose: a pinhole camera and a z-buffer over points.
- ``cdlm.data.sketch``: Drawings of photographs: pencil sketches by color dodge, edges by Canny.
- ``cdlm.data.bop``: LineMod in the layout of BOP: renders of its models, crops of its frames.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
