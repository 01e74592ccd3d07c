"""Writes versions.yaml: of requirements.lock, the packages whose versions can move a stage's bytes.

``make versions`` calls it, and so does ``make lock``; a test calls ``versions_yaml`` and finds a stale file.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from geobody.paths import STAGES  # noqa: E402
from geobody.versions import PYTHON, VERSIONS_FILE, stage_versions  # noqa: E402

HEADER = "# Written by `make versions` from requirements.lock: what of it can move a result. Params of the stages.\n"


def versions_yaml(lock: str, pyproject: str) -> str:
    """The text of versions.yaml, from the texts of requirements.lock and pyproject.toml.

    Raises ``SystemExit`` when the lock lacks a package that a stage imports.
    """
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\\n]+)", lock, re.MULTILINE))
    python = re.search(r'^requires-python = ">=(\d+\.\d+)', pyproject, re.MULTILINE)
    if python is None:
        raise SystemExit('error: pyproject.toml: requires-python: must begin with ">=3.N"')
    locked[PYTHON] = python.group(1)
    names = sorted({name for stage in STAGES for name in stage_versions(stage)})
    if missing := [name for name in names if name not in locked]:
        raise SystemExit(
            f"error: requirements.lock: lacks {', '.join(missing)}, which stages import; name them in pyproject.toml "
            "and run make lock"
        )
    return HEADER + "".join(f'{name}: "{locked[name]}"\n' for name in names)


def main() -> None:
    texts = [(ROOT / name).read_text() for name in ("requirements.lock", "pyproject.toml")]
    (ROOT / VERSIONS_FILE).write_text(versions_yaml(*texts))


if __name__ == "__main__":
    main()
