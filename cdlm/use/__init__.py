"""What a stored run is good for: predictions, pictures, reports, exports.

- ``cdlm.use.trust``: How far to trust predictions without labels: calibration, estimated
  accuracy, and what speaks against a run.
- ``cdlm.use.images``: What a word on the command line stands for: images with names, as a run
  reads them.
- ``cdlm.use.prediction``: Classes of new images, read by a stored run: one row for each image.
- ``cdlm.use.translation``: Pictures of what a stored run draws from new images.
- ``cdlm.use.pages``: Pages of paragraphs, tables and pictures, as HTML and as Markdown.
- ``cdlm.use.card``: The model card of a run: what it is, for whom, where it fails, what it was
  made of.
- ``cdlm.use.hub``: A model as a folder that others can load: configuration, weights, card.
- ``cdlm.use.report``: What can be measured of a stored run, and said of it, on one page.
- ``cdlm.use.export``: A stored run as files that run elsewhere, checked against PyTorch.
- ``cdlm.use.estimator``: Every method as an estimator of scikit-learn.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
