"""Writes requirements.lock: every version pinned with hashes, build requirements too, no URL in it.

``make lock`` calls it; it asks the package registry that uv is set to.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# Written by `make lock` from pyproject.toml, with the build requirements.\n"
URL = re.compile(r"://|^\s*--?(i|f|index-url|extra-index-url|find-links|trusted-host)\b", re.MULTILINE)


def main() -> None:
    lock = ROOT / "requirements.lock"
    command = [
        *("uv", "pip", "compile", "pyproject.toml", "--quiet", "--upgrade"),
        *("--extra", "dev", "--extra", "cluster", "--extra", "build"),
        *("--python-version", "3.11", "--python-platform", "linux"),
        *("--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
        *("--output-file", str(lock)),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    text = lock.read_text()
    if URL.search(text):
        raise SystemExit(
            "error: requirements.lock: names an index; remove that line and look at uv's settings"
        )
    lock.write_text(HEADER + text)


if __name__ == "__main__":
    main()
