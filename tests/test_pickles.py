"""No pickle is ever loaded but through the closed list of ``geobody.body.array_pickle``."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
READER = ROOT / "src/geobody/body/array_pickle.py"
SOURCES = sorted(path for folder in ("src", "stages", "tools") for path in (ROOT / folder).rglob("*.py"))
LOADERS = {"load", "loads", "Unpickler", "_load", "_loads", "_Unpickler"}
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def loads_pickles(source: str) -> list[str]:
    """What in a module could load a pickle: by pickle's kin, torch.load, or numpy's allow_pickle."""
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in {*PICKLERS, "torch", "numpy"}:
            names = {alias.name for alias in node.names}
            found += [f"from {node.module} import {name}" for name in sorted(names & {*LOADERS, "*"})]
        if isinstance(node, ast.Attribute) and node.attr in LOADERS:
            owner = ast.unparse(node.value)
            if owner.split(".")[0] in PICKLERS or owner == "torch":
                found.append(ast.unparse(node))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: word.value for word in node.keywords}
            allowed = given.get("allow_pickle")
            # numpy's own default is False, but np.load must say so, and only a literal False will do.
            if name in ("np.load", "numpy.load") and allowed is None:
                found.append(f"{name} without allow_pickle=False")
            if allowed is not None and not (isinstance(allowed, ast.Constant) and allowed.value is False):
                found.append(ast.unparse(node))
            if name.endswith("read_pickle"):
                found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_loads_a_pickle(path: Path) -> None:
    expected = ["pickle.Unpickler"] if path == READER else []
    assert loads_pickles(path.read_text()) == expected


@pytest.mark.parametrize(
    "source",
    ["pickle.load(file)", "pickle.loads(b)", "class A(pickle.Unpickler): ...", "from pickle import load",
     "torch.load(path, weights_only=True)", "np.load(path)", "np.load(path, allow_pickle=True)",
     "np.load(path, allow_pickle=flag)", "numpy.load(path, None, True)", "joblib.load(path)", "marshal.loads(b)",
     "pd.read_pickle(path)", "from torch import load"],
)  # fmt: skip
def test_what_is_looked_for_is_found(source: str) -> None:
    assert loads_pickles(source)
