"""A pickle of arrays is read as arrays; whatever else a pickle can do is refused by name, and not done."""

import os
import pickle
import pickletools
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_matrix

from geobody.body.array_pickle import read_array_pickle
from geobody.errors import DataError
from smpl_pickle import chumpy_array, chumpy_select, old_sparse, write_official

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(4, 5)) * (RNG.random((4, 5)) < 0.5)


@pytest.mark.parametrize(("protocol", "python2"), [(2, True), (0, False), (1, False), (2, False)])
def test_arrays_of_numpy_chumpy_and_scipy_come_back_to_the_bit(
    tmp_path: Path, protocol: int, python2: bool
) -> None:
    wanted = {
        "float": RNG.normal(size=(3, 2, 4)), "fortran": np.asfortranarray(RNG.normal(size=(3, 5))),
        "big endian": np.arange(6, dtype=">i4").reshape(2, 3), "unsigned": np.array([2**32 - 1], np.uint32),
        "half": np.array([0.5, -2], np.float16), "empty": np.zeros((0, 3)), "no dimension": np.array(3.5),
    }  # fmt: skip
    content = wanted | {
        "chumpy": chumpy_array(MATRIX), "select": chumpy_select(MATRIX), "sparse": old_sparse(MATRIX),
        "text": "lbs", "number": np.float64(2.5),
    }  # fmt: skip
    found = read_array_pickle(write_official(tmp_path / "a.pkl", content, protocol=protocol, python2=python2))
    for name, value in (wanted | dict.fromkeys(("chumpy", "select", "sparse"), MATRIX)).items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
    assert not {"text", "number"} & set(found)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_todays_pickles_of_todays_numpy_and_scipy_are_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": MATRIX, "b": csc_matrix(MATRIX)}, protocol=protocol))
    found = read_array_pickle(path)
    np.testing.assert_array_equal(found["a"], MATRIX)
    np.testing.assert_array_equal(found["b"], MATRIX)


def call(name: str, *arguments: str) -> bytes:
    """A pickle, protocol 0, that calls a global with strings."""
    module, _, function = name.rpartition(".")
    words = "".join(f"V{argument}\n" for argument in arguments)
    return f"c{module}\n{function}\n({words}tR.".encode()


HOSTILE = {
    "posix.system": call("posix.system", "touch {trap}"),
    "os.system": call("os.system", "touch {trap}"),
    "subprocess.Popen": call("subprocess.Popen", "touch {trap}"),
    "builtins.eval": call("builtins.eval", "open('{trap}', 'w')"),
    "__builtin__.open": call("__builtin__.open", "{trap}", "w"),
    "builtins.getattr": call("builtins.getattr", "a", "upper"),
    "pickle.loads": call("pickle.loads", "a"),
    "numpy.load": call("numpy.load", "{trap}"),
    "numpy.testing._private.utils.runstring": call("numpy.testing._private.utils.runstring", "open('{trap}', 'w')"),
    "numpy.core.multiarray._reconstruct.__globals__": (
        b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x18_reconstruct.__globals__\x93."
    ),
    "scipy.sparse.csr.csr_matrix": call("scipy.sparse.csr.csr_matrix"),
    "collections.OrderedDict": pickle.dumps(OrderedDict(a=1)),
    "torch._utils._rebuild_tensor_v2": call("torch._utils._rebuild_tensor_v2"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_any_other_name_is_refused_by_name_and_not_run(tmp_path: Path, name: str) -> None:
    path, trap = tmp_path / "model.pkl", tmp_path / "trap"
    path.write_bytes(HOSTILE[name].replace(b"{trap}", str(trap).encode()))
    with pytest.raises(DataError) as caught:
        read_array_pickle(path)
    assert str(caught.value).startswith(
        f"{path}: asks for {name}, which holds no array: refused, and not run"
    )
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    assert not trap.exists()


def test_the_trap_works_where_nobody_refuses(tmp_path: Path) -> None:
    """The hostile pickle above does run under pickle itself, so that it is no straw man."""
    trap = tmp_path / "trap"
    content = HOSTILE["posix.system"].replace(b"{trap}", str(trap).encode())
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.loads({content!r})"], check=True)
    assert trap.exists()


class Reduced:
    """Pickles as the call and the state that it is given."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def array_with(state: object, *, kind: type = np.ndarray) -> Reduced:
    """An array in numpy's own words, but for its ``state``."""
    return Reduced(np.zeros(1).__reduce__()[0], (kind, (0,), b"b"), state)


def altered(made: object, **replace: object) -> object:
    made.__dict__.update(replace)
    return made


RAW = np.arange(2.0).tobytes()
MISUSES = {
    "an array of another class": (lambda: array_with(None, kind=set), "made of something that is none"),
    "bytes that do not fit": (
        lambda: array_with((1, (1000,), np.dtype("f8"), False, RAW)), "bytes do not fit its shape"
    ),
    "negative lengths": (lambda: array_with((1, (-1, -2), np.dtype("f8"), False, RAW)), "without bytes or shape"),
    "an array of no kind": (lambda: array_with((1, (2,), "f8", False, RAW)), "no kind of number"),
    "a state that is no array's": (lambda: array_with({"__class__": 1}), "in a way that numpy does not"),
    "indices beyond the rows": (lambda: altered(old_sparse(MATRIX), indices=np.full(99, 7)), "do not fit together"),
    "pointers that go back": (
        lambda: altered(old_sparse(np.ones((1, 2))), indptr=np.array([0, 5, 2])), "do not fit together"
    ),
    "a matrix without parts": (lambda: altered(old_sparse(MATRIX), data=None), "without its parts"),
    "a matrix larger than memory": (
        lambda: altered(old_sparse(MATRIX), _shape=(10**9, 7)), r"a sparse matrix of 1000000000 x 7, larger than"
    ),
    "a selection beyond the end": (
        lambda: altered(chumpy_select(MATRIX), idxs=np.array([10_000])), "does not have"
    ),
    "a chumpy array in disguise": (
        lambda: Reduced(np.dtype, ("f8",), (3, "no order", None, None, None, -1, -1, 0)), "describes numbers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISUSES)
def test_a_name_on_the_list_put_to_another_use_is_refused(tmp_path: Path, kind: str) -> None:
    make, problem = MISUSES[kind]
    path = write_official(tmp_path / "model.pkl", {"v_template": make()})
    with pytest.raises(DataError, match=problem) as caught:
        read_array_pickle(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["numpy.core.multiarray _reconstruct", "chumpy.ch Ch", "copy_reg _reconstructor", "numpy dtype"]
)
@pytest.mark.parametrize("state", [b"}S'__doc__'\nS'mine'\ns", b"(N}S'__defaults__'\n(I1\ntst"])
def test_nothing_can_be_set_on_what_the_names_stand_for(tmp_path: Path, name: str, state: bytes) -> None:
    """BUILD sets attributes on whatever lies on the stack: here, on the classes and functions themselves."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"c" + name.replace(" ", "\n").encode() + b"\n" + state + b"b.")
    pickletools.dis(path.read_bytes(), out=open(os.devnull, "w"))  # noqa: SIM115
    with pytest.raises(DataError, match=r"changes|is no whole pickle"):
        read_array_pickle(path)
    again = read_array_pickle(write_official(tmp_path / "good.pkl", {"a": MATRIX, "c": chumpy_array(MATRIX)}))
    np.testing.assert_array_equal(again["c"], MATRIX)


def test_an_array_of_objects_stays_unread(tmp_path: Path) -> None:
    content = {"a": np.array([{"b": 1}], dtype=object), "names": np.array(["x", "y"]), "good": MATRIX}
    assert list(read_array_pickle(write_official(tmp_path / "a.pkl", content))) == ["good"]


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"PK\x03\x04", b"not a pickle", b"\x80\x02}q\x00.", b"I1\n."]
)
def test_what_is_no_pickle_of_arrays_ends_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    if content.endswith(b"\x00."):
        assert read_array_pickle(path) == {}
        return
    with pytest.raises(DataError, match=r"is no whole pickle|holds no dictionary") as caught:
        read_array_pickle(path)
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_anywhere_ends_in_one_line(tmp_path: Path) -> None:
    whole = write_official(
        tmp_path / "a.pkl", {"a": chumpy_array(MATRIX), "b": old_sparse(MATRIX)}
    ).read_bytes()
    path = tmp_path / "cut.pkl"
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.pkl: is no whole pickle"):
            read_array_pickle(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pkl: cannot be read"):
        read_array_pickle(tmp_path / "none.pkl")
