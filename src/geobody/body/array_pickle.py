"""Reads a pickle of arrays without running anything of it.

A pickle is a program: it names classes and functions of installed packages and has them called. Here
each name is looked up in a closed list, and even the names on the list stand for small classes of this
module that keep numbers and nothing else. So numpy, scipy and chumpy are never called by the file, and
chumpy, which does not import beside numpy 2, is not needed.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from geobody.errors import DataError

CURE: Final = "get the file again from where its licence was granted"
_NUMBERS: Final = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_SHOWN: Final = 80
LARGEST_MATRIX: Final = 10**8
"""Entries that a sparse matrix may have when it is made dense: few bytes can declare any shape."""


class _Refusal(Exception):
    """What makes the file no pickle of arrays, in words."""


class _StandIn:
    """Base of what the file may build: holds at most one array, and takes no state but its own kind."""

    __slots__ = ("array",)

    array: NDArray | None

    def __new__(cls, *_: object) -> Self:
        made = super().__new__(cls)
        made.array = None
        return made

    def __init__(self) -> None:
        """Takes nothing."""

    def __setstate__(self, state: object) -> None:
        raise _Refusal("changes what has nothing to change")


class _Object(_StandIn):
    """``object``, which old pickles name as a base."""

    __slots__ = ()


class _Dtype(_StandIn):
    """``numpy.dtype`` of plain numbers; ``dtype`` is None for any other, whose arrays stay unread."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        known = isinstance(code, str) and _NUMBERS.fullmatch(code)
        self.dtype = np.dtype(str(code)) if known else None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise _Refusal("describes numbers in a way that numpy does not")
        if self.dtype is not None and state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(_StandIn):
    """``numpy.ndarray`` of plain numbers; ``array`` stays None for any other."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _Refusal("describes an array in a way that numpy does not")
        shape, dtype, fortran, raw = state[-4:]
        self.array = _numbers(raw, dtype, shape, order="F" if fortran else "C")


class _Sparse(_StandIn):
    """``scipy.sparse.csc_matrix``, made dense."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise _Refusal("describes a sparse matrix in a way that scipy does not")
        shape = state.get("_shape", state.get("shape"))
        data, indices, indptr = (_array_of(state.get(key)) for key in ("data", "indices", "indptr"))
        if data is None or indices is None or indptr is None or not _is_shape(shape) or len(shape) != 2:
            raise _Refusal("holds a sparse matrix without its parts")
        if math.prod(shape) > LARGEST_MATRIX:
            raise _Refusal(f"holds a sparse matrix of {shape[0]} x {shape[1]}, larger than any body's")
        rows, columns = shape
        fits = (
            data.ndim == indices.ndim == indptr.ndim == 1
            and len(data) == len(indices)
            and len(indptr) == columns + 1
            and indices.dtype.kind in "iu"
            and indptr.dtype.kind in "iu"
            and (indptr[0], indptr[-1]) == (0, len(data))
            and bool((np.diff(indptr.astype(np.int64)) >= 0).all())
            and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < rows))
        )
        if not fits:
            raise _Refusal("holds a sparse matrix whose parts do not fit together")
        self.array = csc_matrix((data, indices, indptr), shape=shape).toarray()


class _Chumpy(_StandIn):
    """``chumpy.ch.Ch``: a constant array with bookkeeping, of which the array is kept."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise _Refusal("describes a chumpy array in a way that chumpy does not")
        self.array = _array_of(state.get("x"))


class _ChumpySelect(_StandIn):
    """``chumpy.reordering.Select``: some entries of a chumpy array, in another shape."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        entries = state if isinstance(state, dict) else {}
        whole, picks = (_array_of(entries.get(key)) for key in ("a", "idxs"))
        shape = entries.get("preferred_shape")
        if whole is None or picks is None or picks.dtype.kind not in "iu":
            raise _Refusal("describes a chumpy selection in a way that chumpy does not")
        if picks.size and not 0 <= picks.min() <= picks.max() < whole.size:
            raise _Refusal("selects entries that a chumpy array does not have")
        chosen = whole.ravel()[picks]
        self.array = chosen.reshape(shape) if _is_shape(shape) else chosen


class _Call:
    """A function on the list: can be called, and nothing can be set on it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: object) -> Any:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refusal("changes a function")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    """``numpy``'s first half of an array: empty, of the kind ``numpy.ndarray`` and no other."""
    if kind is not _Array:
        raise _Refusal("has an array made of something that is none")
    return _Array()


def _reconstructor(kind: object, base: object, state: object) -> _StandIn:
    """``copy_reg``'s first half of an object."""
    if kind not in (_Chumpy, _ChumpySelect, _Sparse) or base is not _Object or state is not None:
        raise _Refusal("has an object made of something that holds no array")
    return kind()


def _scalar(dtype: object, raw: object) -> float | None:
    values = _numbers(raw, dtype, (1,), order="C")
    return None if values is None else values.item()


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    made = _Array()
    made.array = _numbers(raw, dtype, shape, order="F" if order == "F" else "C")
    return made


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """``_codecs.encode``: how Python 3 writes bytes for Python 2 to read."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refusal("encodes something other than bytes")
    return text.encode("latin1")


def _numbers(raw: object, dtype: object, shape: object, *, order: str) -> NDArray | None:
    """The array of bytes ``raw``; None where the numbers' kind is not a plain one."""
    if not isinstance(dtype, _Dtype):
        raise _Refusal("holds an array of no kind of number")
    if dtype.dtype is None:
        return None
    if isinstance(raw, str):  # Python 2's bytes
        raw = raw.encode("latin1")
    if not isinstance(raw, (bytes, bytearray)) or not _is_shape(shape):
        raise _Refusal("holds an array without bytes or shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise _Refusal("holds an array whose bytes do not fit its shape")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)


def _array_of(value: object) -> NDArray | None:
    return value.array if isinstance(value, _StandIn) else None


def _allowed() -> dict[str, object]:
    """Stand-ins by the names that pickles of numpy, scipy and chumpy use, old and new."""
    found: dict[str, object] = {
        "numpy.ndarray": _Array, "numpy.dtype": _Dtype, "chumpy.ch.Ch": _Chumpy,
        "chumpy.reordering.Select": _ChumpySelect, "_codecs.encode": _Call(_encode),
    }  # fmt: skip
    for package in ("numpy.core", "numpy._core"):
        found[f"{package}.multiarray._reconstruct"] = _Call(_reconstruct)
        found[f"{package}.multiarray.scalar"] = _Call(_scalar)
        found[f"{package}.numeric._frombuffer"] = _Call(_from_buffer)
    for module in ("scipy.sparse.csc", "scipy.sparse._csc"):
        found[f"{module}.csc_matrix"] = _Sparse
    for module in ("copy_reg", "copyreg"):
        found[f"{module}._reconstructor"] = _Call(_reconstructor)
    for module in ("__builtin__", "builtins"):
        found[f"{module}.object"] = _Object
        found[f"{module}.set"] = _Call(lambda *items: None)
        found[f"{module}.bytes"] = _Call(lambda: b"")
    return found


class _ArrayUnpickler(pickle.Unpickler):
    """Finds stand-ins for the names on the list and refuses every other name."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, fix_imports=False, encoding="latin1")
        self._stand_ins = _allowed()

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        try:
            return self._stand_ins[name]
        except KeyError:
            shown = name.encode("unicode_escape").decode()[:_SHOWN]
            raise _Refusal(f"asks for {shown}, which holds no array: refused, and not run") from None

    def persistent_load(self, pid: Any, /) -> Any:
        raise _Refusal("refers to something outside of itself")


def read_array_pickle(path: Path) -> dict[str, NDArray]:
    """The arrays of a pickled dict by their keys; entries that are no array of plain numbers are left out.

    Reads numpy's arrays, scipy's ``csc_matrix`` (made dense) and chumpy's ``Ch`` and ``Select``, as Python
    2 and 3 pickle them. Raises DataError naming whatever else the file asks for.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file).load()
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check the path") from None
    except _Refusal as refusal:
        raise DataError(path, str(refusal), CURE) from None
    except Exception as error:  # damaged bytes can raise whatever an opcode raises on the wrong operands
        raise DataError(path, f"is no whole pickle ({type(error).__name__})", CURE) from error
    if not isinstance(content, dict):
        raise DataError(path, "holds no dictionary of arrays", CURE)
    arrays = {str(key): _array_of(value) for key, value in content.items() if isinstance(key, str)}
    return {key: array for key, array in arrays.items() if array is not None}
