"""``python -m geobody``: the same as the command ``geobody``."""

from geobody.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
