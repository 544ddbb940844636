"""What stored runs and domains are like beyond their accuracy, as records for the chapters.

- ``cdlm.measurements.moments``: The moments of modulated codes, as the theory predicts them
  and as stored runs have them.
- ``cdlm.measurements.stored``: Stored runs that a measurement reads.
- ``cdlm.measurements.drawings``: What a stored run draws, as records: only images that may be
  printed.
- ``cdlm.measurements.maps``: Where a stored run puts images, and which classes it takes for
  which, as records.
- ``cdlm.measurements.shift``: How far domains are apart, on their pixels: distances,
  neighbors, shares, and the record of them.
- ``cdlm.measurements.trust``: Estimates of accuracy without labels, and warnings, of stored
  runs beside the truth.
- ``cdlm.measurements.poses``: Poses of what a stored run draws, read by the nearest render;
  and accuracy by how much is visible.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
