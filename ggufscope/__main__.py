"""``python -m ggufscope``, and the ``ggufscope`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word, even while it is still starting."""
    try:
        from ggufscope.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it: 128 and the number of the signal


if __name__ == "__main__":
    main()
