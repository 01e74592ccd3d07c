"""A profile laid over the default params, as ``make smoke`` does it, gives valid params with the profile's values."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geobody.config import load_params
from geobody.yaml12 import read_yaml
from tools.smoke import ROOT, use_profile

PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


def values(tree: dict[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value that is no mapping, with the keys that lead to it."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from values(value, *above, key)
        else:
            yield (*above, key), value


def test_there_are_profiles() -> None:
    assert "tiny" in PROFILES


@pytest.mark.parametrize("profile", PROFILES)
def test_params_under_a_profile_are_valid_and_differ_where_it_says(tmp_path: Path, profile: str) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    use_profile(tmp_path, profile)
    load_params(tmp_path / "params.yaml")
    laid = dict(values(read_yaml(tmp_path / "params.yaml")))
    default = dict(values(read_yaml(ROOT / "params.yaml")))
    wanted = dict(values(read_yaml(ROOT / "profiles" / f"{profile}.yaml")))
    assert wanted
    assert laid == default | wanted
    assert all(default[key] != value for key, value in wanted.items())
