"""A stand-in for the official SMPL file: its layout, pickled as Python 2 with chumpy and old scipy did.

The arrays are the capsule man's, brought to SMPL's 6,890 vertices by points on his faces; nothing of SMPL
is in it. Neither chumpy nor Python 2 is needed: classes of their names are pickled.
"""

import functools
import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csc_matrix

from capsule_body import capsule_body

N_VERTICES = 6890


@functools.cache
def smpl_sized() -> dict[str, np.ndarray]:
    """The capsule man's arrays with 6,890 vertices: every further one lies on a face and moves with it."""
    man = capsule_body()
    rng = np.random.default_rng(1)
    more = N_VERTICES - len(man["v_template"])
    corners = man["f"][rng.integers(len(man["f"]), size=more)].astype(np.int64)
    share = rng.dirichlet(np.ones(3), size=more)

    def grown(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.einsum("nk,nk...->n...", share, values[corners])])

    body = {key: grown(man[key]) for key in ("v_template", "shapedirs", "posedirs", "weights")}
    regressor = np.zeros((24, N_VERTICES))
    regressor[:, : len(man["v_template"])] = man["J_regressor"]
    return body | {"J_regressor": regressor, "kintree_table": man["kintree_table"], "f": man["f"]}


class _ClassOf:
    """Base of the classes that are pickled under other modules' names."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


def foreign(module: str, name: str) -> type[_ClassOf]:
    """A class that pickles as ``module.name``."""
    return type(name, (_ClassOf,), {"__module__": module, "__qualname__": name})


CHUMPY, SELECT = foreign("chumpy.ch", "Ch"), foreign("chumpy.reordering", "Select")
OLD_CSC = foreign("scipy.sparse.csc", "csc_matrix")


def chumpy_array(values: np.ndarray) -> _ClassOf:
    """What chumpy's ``Ch`` keeps of itself when it is pickled."""
    return CHUMPY(x=values, _dirty_vars=set(), _itr=None, _depends_on_deps=False, _make_dense=False)


def chumpy_select(values: np.ndarray) -> _ClassOf:
    """A chumpy selection of all entries, from an array in which they stand in reverse."""
    reverse = np.arange(values.size)[::-1].copy()
    return SELECT(a=chumpy_array(values.ravel()[::-1].copy()), idxs=reverse, preferred_shape=values.shape)


def old_sparse(values: np.ndarray) -> _ClassOf:
    """What scipy's ``csc_matrix`` kept of itself."""
    matrix = csc_matrix(values)
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    return OLD_CSC(**parts, _shape=matrix.shape, format="csc", maxprint=50)


def official_content(*, shape_components: int = 10, **replace: Any) -> dict[str, Any]:
    """The entries of an official file, chumpy's and scipy's objects included."""
    body = smpl_sized()
    rng = np.random.default_rng(2)
    further = rng.normal(size=(N_VERTICES, 3, max(0, shape_components - 10))) * 1e-3
    return {
        "J_regressor_prior": old_sparse(body["J_regressor"]), "f": body["f"],
        "J_regressor": old_sparse(body["J_regressor"]), "kintree_table": body["kintree_table"],
        "J": body["J_regressor"] @ body["v_template"], "weights_prior": body["weights"],
        "weights": chumpy_array(body["weights"]), "posedirs": chumpy_select(body["posedirs"]),
        "pose_training_info": {"gender": "neutral", "scans": ["a", "b"], "error": np.float64(0.5)},
        "bs_style": "lbs", "v_template": chumpy_array(np.asfortranarray(body["v_template"])),
        "shapedirs": chumpy_array(np.concatenate([body["shapedirs"], further], axis=2)), "bs_type": "lrotmin",
    } | replace  # fmt: skip


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes byte strings as Python 2 wrote its ``str``."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    dispatch[bytes] = save_bytes

    def save_text(self, value: str) -> None:
        self.save_bytes(value.encode("latin1"))

    dispatch[str] = save_text


@contextmanager
def _importable() -> Iterator[None]:
    """Lets pickle see the classes where their names say that they are."""
    made: dict[str, ModuleType | None] = {}
    for kind in (CHUMPY, SELECT, OLD_CSC):
        for name in (kind.__module__.rpartition(".")[0], kind.__module__):
            if name not in made and (name not in sys.modules or name == kind.__module__):
                made[name] = sys.modules.get(name)
                sys.modules[name] = ModuleType(name)
        setattr(sys.modules[kind.__module__], kind.__name__, kind)
    try:
        yield
    finally:
        for name, module in made.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def write_official(path: Path, content: object, *, protocol: int = 2, python2: bool = True) -> Path:
    """Pickles ``content`` as the official file is; with ``python2`` False as Python 3 does."""
    with _importable(), path.open("wb") as file:
        if python2:
            _Python2Pickler(file, protocol=protocol, fix_imports=True).dump(content)
        else:
            pickle.dump(content, file, protocol=protocol)
    if python2:
        path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    return path
