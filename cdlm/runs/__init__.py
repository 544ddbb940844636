"""A training as a folder that can be evaluated again, and records of several.

- ``cdlm.runs.record``: Records of runs that differ in their seed only, and how chapters read
  them.
- ``cdlm.runs.spec``: Everything that a run follows from, and the data and the method that it
  asks for.
- ``cdlm.runs.folder``: Where a run lives: a folder that is worked in alone, and has its name
  when it is whole.
- ``cdlm.runs.run``: Running, storing, reading back and measuring again.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
