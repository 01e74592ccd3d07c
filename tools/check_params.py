"""Checks params.yaml as a whole, also sections that no stage reads; silent when all is well.

``make repro`` calls it first: DVC looks only at the sections that dvc.yaml names, so a misspelt one
would change nothing and be reported by nothing.
"""

import argparse
import sys
from pathlib import Path

from geobody.config import load_params
from geobody.errors import GeobodyError


def main() -> None:
    """Ends with exit code 2 and one line when a key or a value is wrong."""
    argparse.ArgumentParser(
        prog="python -m tools.check_params", description="Check params.yaml."
    ).parse_args()
    try:
        load_params(Path("params.yaml"))
    except GeobodyError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
