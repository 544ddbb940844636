"""The domains of the experiments: digits, clothes, objects, faces, shoes, and any folder.

- ``cdlm.domains.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.domains.samples``: The digits that come with packages, whole domains in seconds and
  without a network.
- ``cdlm.domains.digits``: The whole sets of digits and clothes, plain and blended into
  photographs.
- ``cdlm.domains.render``: Colored meshes drawn at any pose: a pinhole camera and a z-buffer
  over points.
- ``cdlm.domains.sketch``: Drawings of photographs: pencil sketches by color dodge, edges by
  Canny.
- ``cdlm.domains.linemod``: LineMod in the layout of BOP: renders of its models, crops of its
  frames.
- ``cdlm.domains.drawn``: Faces and their sketches, shoes and their edges.
- ``cdlm.domains.catalog``: All domains by name, any folder as a domain, and what is there.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
