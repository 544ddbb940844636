"""``python -m cdlm``.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

from cdlm.cli.app import main

main()
