"""``python -m ggufscope``, and the ``ggufscope`` command."""

# Until the working folder is off the path, nothing is imported but what is built into Python, or
# what it has loaded itself.
import atexit
import gc
import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word, even while it is still starting."""
    _forget_working_folder()
    _fill_standard_streams()
    # What is there at the end goes with the process. To look through all of it for garbage took a
    # short command a tenth of its time. By then files are closed, and exit handlers have run.
    atexit.register(gc.freeze)
    # A pass has threads of its own, and OpenBLAS one. Its others would spin from the start, for as
    # long as a short command takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        gc.disable()  # what is imported stays
        from ggufscope.cli.app import main as run

        gc.enable()
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
