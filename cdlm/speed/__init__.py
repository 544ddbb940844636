"""What things cost, in seconds and in arithmetic, and why.

- ``cdlm.speed.feeding``: What it costs to feed a network, beside what others use.
- ``cdlm.speed.predicting``: What predictions cost beyond the networks.
- ``cdlm.speed.ways``: One training step in many ways.
- ``cdlm.speed.arithmetic``: How many multiplications a step takes, counted by formula and by
  running it.
- ``cdlm.speed.machine``: What a machine could do, and where the time of a step goes.
- ``cdlm.speed.sizes``: What a training step costs at larger images, and at which share of the
  speed.
- ``cdlm.speed.ladder``: What a training step costs, way by way, and how that grows.
- ``cdlm.speed.needs``: What a training needs at a width: parameters, memory, operations,
  launches.
- ``cdlm.speed.race``: Seconds to an accuracy, beside other libraries.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
