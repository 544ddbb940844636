"""The paper's tables and figures: which runs are behind them, making those, and what came out.

- ``cdlm.experiments.paper``: What the paper reports: the numbers of its tables, for the rows
  that are run here.
- ``cdlm.experiments.plan``: From a table or a figure to the runs behind it: variants, tasks,
  seeds, profiles.
- ``cdlm.experiments.record``: What is measured of a run of an experiment, and its record.
- ``cdlm.experiments.queue``: A queue of runs that can be cut off and taken up again.
- ``cdlm.experiments.results``: Records of many runs as the cells of the paper's tables.
- ``cdlm.experiments.linemod``: LineMod, renders to photographs: its runs, and its column of
  Table 2.
- ``cdlm.experiments.sheet``: Tables that a page shows with columns to sort by, and everything
  else as text.
- ``cdlm.experiments.tables``: Rows of a table from records: with an interval and a word for
  each difference, and the paper's number beside them.
- ``cdlm.experiments.claims``: Claims about tables as comparisons of records, and what the
  records say of each.
- ``cdlm.experiments.ranks``: Methods ranked over tasks: mean ranks, and from which difference
  on they are told apart.
- ``cdlm.experiments.protocols``: The same tasks with fewer images, and with images in a frame:
  their domains and runs.
- ``cdlm.experiments.findings``: What came out, in sentences that the records bear, or else
  there is an error.
- ``cdlm.experiments.translation``: The trainings behind Table 4 and Figure 8, and their
  records.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
