"""The command line; it calls what the chapters define.

- ``cdlm.cli.common``: What all commands share: errors in one line, devices, settings.
- ``cdlm.cli.train``: Commands that train, evaluate and record runs.
- ``cdlm.cli.data``: Commands about domains and their files.
- ``cdlm.cli.bench``: Commands that measure what things cost.
- ``cdlm.cli.experiments``: Commands that measure stored runs, reproduce tables, and show them.
- ``cdlm.cli.predict``: Commands that use a stored run on new images.
- ``cdlm.cli.report``: The command that tells of a run.
- ``cdlm.cli.export``: The command that takes a stored run elsewhere.
- ``cdlm.cli.app``: The program `cdlm`: all commands, and where it begins.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
