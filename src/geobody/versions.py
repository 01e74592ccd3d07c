"""The versions that results were made with: ``versions.yaml``, of which each stage's packages are params.

DVC runs a stage again when a version of its packages changes there, and ``dvc params diff`` names it. What is
installed must be what is recorded: a stage compares before it works.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from geobody.dependencies import ROOT, stage_packages
from geobody.errors import DataError, ParamsError
from geobody.yaml12 import read_yaml

VERSIONS_FILE: Final = "versions.yaml"
PYTHON: Final = "python"


def stage_versions(name: str) -> list[str]:
    """The keys of ``versions.yaml`` that a stage depends on: Python and its packages."""
    return [PYTHON, *stage_packages(name)]


def check_versions(name: str, *, root: Path = ROOT) -> None:
    """Returns when the stage's packages are installed in the versions that are recorded in ``root``.

    Raises ``DataError`` when the record is missing and ``ParamsError`` when a version differs.
    """
    path = root / VERSIONS_FILE
    if not path.is_file():
        raise DataError(VERSIONS_FILE, "is missing", "make it with: make versions")
    recorded = {package: str(version) for package, version in read_yaml(path).items()}
    differing = [
        f"{package} is {installed(package)}, recorded {recorded.get(package, 'nothing')}"
        for package in stage_versions(name)
        if installed(package) != recorded.get(package)
    ]
    if differing:
        raise ParamsError(
            f"{VERSIONS_FILE}: {', '.join(differing)}; install requirements.lock (make repro does), "
            "or record what is installed (dvc repro then runs the stages that it can move)"
        )


def installed(package: str) -> str:
    """The version that is installed ("none" when there is none); of Python, major and minor."""
    if package == PYTHON:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
