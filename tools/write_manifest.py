"""Writes the manifest of a data set: what DVC and the index know its files by.

Write it again whenever the data set has changed.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from geobody.data.manifest import write_manifest
from geobody.errors import DataError


def main() -> None:
    """Ends with exit code 3 and one line when a folder is missing or empty or a file cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.write_manifest", description="Write the manifest of a data set."
    )
    parser.add_argument("images", type=Path, help="folder of the images and .mat files (dataset.root)")
    parser.add_argument("masks", help="folder of the masks (dataset.masks), or - when there are none")
    parser.add_argument("manifest", type=Path, help="the file to write (dataset.manifest)")
    wanted = parser.parse_args()
    roots = {"images": wanted.images}
    if wanted.masks != "-":
        roots["masks"] = Path(wanted.masks)
    try:
        files = write_manifest(wanted.manifest, roots)
    except DataError as error:
        _fail(str(error))
    except OSError as error:
        place = error.filename or wanted.manifest
        _fail(f"{place}: cannot be read or written ({error.strerror}); mend that and run this again")
    print(f"{wanted.manifest}: {files} files")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(DataError.exit_code)


if __name__ == "__main__":
    main()
