"""``python -m ggufscope``, and the ``ggufscope`` command."""

# Until the working folder is off the path, nothing but what Python has loaded itself is imported.
import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word, even while it is still starting."""
    _forget_working_folder()
    _fill_standard_streams()
    try:
        from ggufscope.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it: 128 and the number of the signal


def _forget_working_folder() -> None:
    """Import nothing from the folder that the command runs in: a model's folder is a stranger's.

    ``python -m`` puts it first on the path. This package's own folder is trusted.
    """
    try:
        here = os.path.realpath(os.curdir)
    except OSError:  # it was removed
        here = ""
    if here != os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir)):  # noqa: PTH118, PTH120
        sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]


def _fill_standard_streams() -> None:
    """Give closed standard streams a place: a file opened next would be taken for one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


if __name__ == "__main__":
    main()
