"""dvc.yaml lists the modules that each stage imports: not fewer, not more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from geobody.dependencies import NOT_RESULTS, ROOT, stage_modules
from geobody.paths import STAGES
from tools.write_dvc_yaml import dvc_yaml


def test_dvc_yaml_is_what_the_table_and_the_imports_say() -> None:
    assert (ROOT / "dvc.yaml").read_text() == dvc_yaml(), "run: make dvc.yaml"


@pytest.mark.parametrize("name", STAGES)
def test_a_page_reads_the_sections_that_it_declares_and_no_others(name: str) -> None:
    page = (ROOT / "stages" / f"{name}.py").read_text()
    assert set(re.findall(r"job\.params\.(\w+)", page)) == set(STAGES[name].sections)


@pytest.mark.parametrize("name", STAGES)
def test_importing_a_stage_imports_neither_torch_nor_matplotlib(name: str) -> None:
    heavy = ("torch", "matplotlib", "cv2", "anny", "scipy", "smplx")
    code = f"import sys, stages.{name}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_closure_follows_imports_inside_functions_and_through_modules(tmp_path: Path) -> None:
    found = {path.as_posix() for path in stage_modules("crops")}
    assert "stages/crops.py" in found
    assert "src/geobody/data/crops.py" in found
    assert "src/geobody/conventions.py" in found
    assert not any(f"src/{name.replace('.', '/')}.py" in found for name in NOT_RESULTS)
