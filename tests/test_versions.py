"""A stage works with the recorded versions alone, and with threads that are pinned."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from geobody.dependencies import ROOT
from geobody.errors import DataError, ParamsError
from geobody.threads import PINNED
from geobody.versions import check_versions, stage_versions

RECORDED = (ROOT / "versions.yaml").read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("1.0.0", f"torch is {metadata.version('torch')}, recorded 1.0.0"),
        (None, f"torch is {metadata.version('torch')}, recorded nothing"),
    ],
)
def test_another_version_than_recorded_is_one_line_for_the_stages_that_it_can_move(
    tmp_path: Path, changed: str | None, said: str
) -> None:
    lines = [line for line in RECORDED.splitlines() if not line.startswith("torch:")]
    (tmp_path / "versions.yaml").write_text("\n".join([*lines, f'torch: "{changed}"' if changed else "# -"]))
    with pytest.raises(ParamsError) as error:
        check_versions("encdec", root=tmp_path)
    assert str(error.value).startswith(f"versions.yaml: {said}; install requirements.lock")
    assert "\n" not in str(error.value)
    check_versions("index", root=tmp_path)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions.yaml").write_text(RECORDED)

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("geobody.versions.metadata.version", missing)
    with pytest.raises(ParamsError, match="numpy is none, recorded 2"):
        check_versions("index", root=tmp_path)


def test_another_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "versions.yaml").write_text(
        RECORDED.replace(f'python: "3.{sys.version_info.minor}"', "python: 3.7")
    )
    with pytest.raises(ParamsError, match=rf"python is 3.{sys.version_info.minor}, recorded 3.7;"):
        check_versions("index", root=tmp_path)


def test_a_missing_record_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"versions\.yaml: is missing; make it with: make versions"):
        check_versions("index", root=tmp_path)


def test_python_and_numpy_can_move_every_stage() -> None:
    for page in (ROOT / "stages").glob("[a-z]*.py"):
        assert {"python", "numpy"} <= set(stage_versions(page.stem))


REPORT = """
import json
from geobody.threads import pin_threads
pin_threads()
import cv2, numpy, torch
from joblib import Parallel, delayed
from geobody.parallel import in_parallel


def count(_):
    import cv2, torch
    return torch.get_num_threads(), cv2.getNumThreads()


if __name__ == "__main__":
    here = torch.get_num_threads(), cv2.getNumThreads()
    print(json.dumps([here, *in_parallel(count, [0, 1], total=2, desc="count", jobs=2)]))
"""


def test_threads_are_one_here_and_in_workers_whatever_the_caller_set(tmp_path: Path) -> None:
    (tmp_path / "report.py").write_text(REPORT)
    environment = {
        **os.environ,
        **dict.fromkeys(PINNED, "3"),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "report"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[[1, 1], [1, 1], [1, 1]]"
