"""What a stage's code is made of: DVC runs the stage again when one of these changes.

The modules of this project that it imports, and the packages of others, found in the source without
importing anything. ``config``, ``paths`` and the modules around them reach a stage as params and paths,
not as results, so they are no dependencies, and neither is what they alone import.
"""

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"

NOT_RESULTS = frozenset(
    f"geobody.{name}"
    for name in (
        "config",
        "yaml12",
        "paths",
        "stage",
        "cluster",
        "dependencies",
        "versions",
        "progress",
        "errors",
        "interruption",
    )
)
"""They sit in every closure, and no byte of an output depends on them beyond params and paths."""

AROUND: Final = ("geobody.threads",)
"""What ``stage.run`` does around every stage's page and bits depend on."""

OWN: Final = ("geobody", "stages")

DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "lightning_fabric": "lightning-fabric",
    "pytorch3d": "easypytorch3d",
    "warp": "warp-lang",
}
"""Import name -> name in requirements.lock, where these differ."""

MOVE_NOTHING: Final = {
    "dask": "decides where tasks run, not what they compute",
    "distributed": "decides where tasks run, not what they compute",
    "joblib": "decides where tasks run, not what they compute",
}
"""Packages that modules import and results do not depend on, and why."""

BENEATH: Final = {
    "anny": {
        "numpy": "its arrays come from it",
        "roma": "turns its bones and its axes",
        "torch": "sums its blend shapes and draws its adults",
        "trimesh": "finds the parts of its mesh",
    },
    "deodr": {"numpy": "prepares what its rasteriser draws", "scipy": "holds its meshes' adjacency"},
    "easypytorch3d": {"torch": "computes everything in it"},
    "lightning-fabric": {"torch": "computes everything in it"},
    "matplotlib": {
        "kiwisolver": "lays its figures out",
        "numpy": "scales its data",
        "pillow": "writes its PNGs",
    },
    "scipy": {"numpy": "its arrays and much of its linear algebra"},
    "smplx": {"torch": "poses the body"},
}
"""Package -> packages under it that can move a stage's bytes though no module here need import them, and why.

The rest of what is installed under these (downloads, configuration, GPU libraries, which torch pins itself)
moves none on a CPU.
"""


def stage_modules(name: str) -> list[Path]:
    """The stage's page and the modules that it imports, directly or not, relative to the root; sorted."""
    return [path.relative_to(ROOT) for path in _closure(name)]


def stage_packages(name: str) -> list[str]:
    """The packages of others whose versions can move the stage's bytes, as requirements.lock names them; sorted."""
    found: set[str] = set()
    waiting = [
        DISTRIBUTIONS.get(top, top)
        for path in _closure(name)
        for top in {imported.split(".")[0] for imported in _imports(path)}
        if top not in sys.stdlib_module_names and top not in OWN
    ]
    while waiting:
        package = waiting.pop()
        if package not in found and package not in MOVE_NOTHING:
            found.add(package)
            waiting.extend(BENEATH.get(package, ()))
    return sorted(found)


def _closure(name: str) -> list[Path]:
    found: set[Path] = set()
    waiting = [ROOT / "stages" / f"{name}.py", *filter(None, map(_file, AROUND))]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(module for module in map(_file, _imports(path)) if module)
    return sorted(found)


@cache
def _imports(path: Path) -> frozenset[str]:
    """Every name that the module imports: a module, a package, or what may be a module inside one."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def _file(name: str) -> Path | None:
    """The file of a module of results; packages' ``__init__`` hold a docstring alone and are left out."""
    if not name.startswith("geobody.") or name in NOT_RESULTS:
        return None
    path = SOURCE.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None
