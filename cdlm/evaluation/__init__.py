"""What a trained model is worth: accuracies, distances, intervals, and which snapshot to report.

- ``cdlm.evaluation.statistics``: Statistics of a few numbers: intervals, regressions, tests of
  a shape.
- ``cdlm.evaluation.accuracy``: What a classifier gets right, and which classes it takes for
  which.
- ``cdlm.evaluation.readouts``: The ways to read one model: from images, codes, translations,
  features.
- ``cdlm.evaluation.distances``: How far apart the domains are in a model's features, and a map
  of them.
- ``cdlm.evaluation.translation``: How near drawings are to the truth, how much they vary, and
  how blurred they are.
- ``cdlm.evaluation.selection``: Which snapshot to report: rules that need no target label, and
  the oracle, kept apart from them.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
