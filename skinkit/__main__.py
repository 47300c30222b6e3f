"""``python -m skinkit`` is the same as ``skinkit``."""

from skinkit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
