"""dvc.yaml lists the modules and packages that each stage imports: not fewer, not more."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from geobody.dependencies import BENEATH, DISTRIBUTIONS, NOT_RESULTS, ROOT, stage_modules, stage_packages
from geobody.paths import STAGES
from tools.write_dvc_yaml import dvc_yaml
from tools.write_versions import versions_yaml


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


def test_versions_yaml_is_what_the_lock_and_the_imports_say() -> None:
    texts = [(ROOT / name).read_text() for name in ("requirements.lock", "pyproject.toml")]
    assert (ROOT / "versions.yaml").read_text() == versions_yaml(*texts), "run: make versions"


def test_a_package_that_stages_import_and_the_lock_lacks_is_one_line() -> None:
    lock, pyproject = ((ROOT / name).read_text() for name in ("requirements.lock", "pyproject.toml"))
    with pytest.raises(SystemExit, match=r"requirements\.lock: lacks roma, which stages import"):
        versions_yaml(lock.replace("\nroma==", "\nromb=="), pyproject)


def test_a_stage_depends_on_what_it_imports_and_on_what_lies_beneath() -> None:
    assert "torch" not in stage_packages("index")
    assert "scipy" in stage_packages("index")
    assert {"opencv-python-headless", "deodr", "easypytorch3d", "safetensors"} <= set(
        stage_packages("smpl_regressor")
    )
    assert {"roma", "trimesh"} <= set(stage_packages("body"))  # no module here imports them, anny does


def test_import_names_belong_to_the_packages_that_are_recorded() -> None:
    provided = metadata.packages_distributions()
    recorded = {name for stage in STAGES for name in stage_packages(stage)}
    names = {package: top for top, package in DISTRIBUTIONS.items()}
    for package in recorded:
        top = names.get(package, package)
        assert package in {name.lower().replace("_", "-") for name in provided[top]}, top


@pytest.mark.parametrize("upper", BENEATH)
def test_what_lies_beneath_a_package_is_installed_for_it(upper: str) -> None:
    undeclared = {"easypytorch3d": {"torch"}}  # its wheel states no bound
    required = {re.split(r"[^\w.-]", line)[0].lower() for line in metadata.requires(upper) or []}
    assert set(BENEATH[upper]) <= required | undeclared.get(upper, set())
