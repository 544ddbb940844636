"""The command ``cdlm``, and ``python -m cdlm``.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

import signal


def main() -> None:
    """Enter the program. Until it is imported, which takes seconds, an interrupt ends it without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cdlm.cli.app import main as program

    program()


if __name__ == "__main__":
    main()
