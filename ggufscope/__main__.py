"""``python -m ggufscope``, and the ``ggufscope`` command."""

from __future__ import annotations

from ggufscope.cli.app import main

if __name__ == "__main__":
    main()
