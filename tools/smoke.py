"""Runs the whole DAG on the tiny profile, in a temporary copy that nothing else sees.

``copy_repository`` and ``use_profile`` serve the tests of the pipeline as well.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]


def copy_repository(target: Path) -> Path:
    """A new Git repository at ``target`` with the files that Git tracks here, as they are now."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for command in (
        ("-c", "init.defaultBranch=main", "init", "--quiet"),
        ("config", "user.name", "geobody"),  # dvc exp apply needs them, and a fresh machine has none
        ("config", "user.email", "geobody@localhost"),
        ("add", "--all"),
        ("commit", "--quiet", "--message", "Copy"),
    ):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def use_profile(repository: Path, profile: str) -> None:
    """Lays ``profiles/<profile>.yaml`` over the repository's ``params.yaml``."""
    yaml = YAML()
    params = yaml.load(repository / "params.yaml")
    _lay_over(params, yaml.load(repository / "profiles" / f"{profile}.yaml"))
    yaml.dump(params, repository / "params.yaml")


def _lay_over(params: Any, changes: Any) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(params.get(key), dict):
            _lay_over(params[key], value)
        else:
            params[key] = value


def stage_environment() -> dict[str, str]:
    """The environment in which ``dvc repro`` runs this interpreter's ``python``, and nobody's other one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONHASHSEED": "0", "DVC_NO_ANALYTICS": "1"}


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="geobody-smoke-") as folder:
        repository = copy_repository(Path(folder))
        use_profile(repository, "tiny")
        done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=repository, env=stage_environment())
        if done.returncode:
            raise SystemExit(done.returncode)
        print((repository / "metrics" / "eval.json").read_text())
    print(f"smoke: the whole DAG on the tiny profile in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
