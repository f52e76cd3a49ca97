"""The program ``napari-d3ip``, also ``python -m napari_d3ip``: loads the command line, then runs it."""

import sys

from napari_d3ip.cli.interruption import ended_at_once


def main() -> int:
    """Run the command line and return its exit code."""
    with ended_at_once():
        from napari_d3ip.cli.main import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
