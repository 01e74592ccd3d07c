"""Writes requirements.lock: every version pinned with hashes, build requirements too, no URL in it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# Written by `make lock` from pyproject.toml, with the build requirements of the package itself.\n"
URL = re.compile(r"://|^\s*--?(i|f|index-url|extra-index-url|find-links|trusted-host)\b", re.MULTILINE)


def main() -> None:
    lock = ROOT / "requirements.lock"
    command = [
        *(sys.executable, "-m", "piptools", "compile", "--quiet"),
        *("--extra", "dev", "--build-deps-for", "editable", "--allow-unsafe", "--strip-extras"),
        *("--generate-hashes", "--no-annotate", "--no-header", "--no-emit-options"),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
        *("--output-file", str(lock), "pyproject.toml"),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    text = lock.read_text()
    if URL.search(text):
        raise SystemExit(
            "error: requirements.lock: names an index; remove that line and look at pip's settings"
        )
    lock.write_text(HEADER + text)


if __name__ == "__main__":
    main()
