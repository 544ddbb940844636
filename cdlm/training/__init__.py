"""How a method is trained: updates, the loop around them, and what survives a crash.

- ``cdlm.training.team``: Several processes that train one model: which slice is whose, and how
  they agree.
- ``cdlm.training.checkpoints``: The state of a training in one file, written whole or not at
  all, and read without trusting it.
- ``cdlm.training.engine``: One update: optimizers, precision, gradients, and the networks'
  forward pass, shared or whole.
- ``cdlm.training.callbacks``: Who is told of a training: a table, curves, a progress bar.
- ``cdlm.training.watch``: What stops a training: a loss that is lost, or somebody who
  interrupts.
- ``cdlm.training.loop``: The loop: steps from the first, or from the last checkpoint, to the
  end.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
