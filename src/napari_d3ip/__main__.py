"""The program ``napari-d3ip``, also ``python -m napari_d3ip``: loads the command line, then runs it."""

import sys

from napari_d3ip.cli.interruption import listen

_NO_MEMORY = ("failed to map segment", "cannot allocate memory")  # What loaders of libraries say.


def main() -> int:
    """Run the command line and return its exit code."""
    listen()
    try:
        from napari_d3ip.cli.main import main as run

        return run()
    except ImportError as error:
        if not any(part in str(error).lower() for part in _NO_MEMORY):
            raise
        print(
            "napari-d3ip: error: memory: not enough to load the program; raise the limit (ulimit -v).", file=sys.stderr
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
