"""The licensed SMPL file as a body file: its pickle becomes plain arrays, with what it lacks made up for.

The official file has no regressor for Human3.6M's joints, no landmarks and no word about itself.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from geobody.body.array_pickle import CURE, read_array_pickle
from geobody.body.h36m_transfer import transfer_regressor
from geobody.body.model import LANDMARKS, ROW_SUM_TOLERANCE, body_problem
from geobody.conventions import H36M_JOINTS, N_BETAS
from geobody.errors import DataError, ParamsError

N_VERTICES: Final = 6890
NEEDED: Final = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
FLOATS: Final = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
STATURE_M: Final = (1.4, 2.1)
"""What the mean body may measure: anything else is in another unit or not upright."""

LICENCE: Final = "SMPL's own: for those whom the Max Planck Society has granted it; not to be passed on"
DERIVED: Final = "made by geobody from the open body's proportions; not compared with any other regressor"


@dataclass(frozen=True)
class Conversion:
    """What `convert_smpl` wrote: a body file's arrays, and where its Human3.6M joints come from."""

    arrays: Mapping[str, np.ndarray]
    h36m_regressor: str
    h36m_fit_mm: float | None
    """Mean distance of the made regressor's joints to their definition, on unseen shapes and poses."""


def convert_smpl(source: Path, output: Path, *, h36m_regressor: Path | None = None) -> Conversion:
    """Writes the body file ``output`` (.npz) from an official SMPL ``source`` (.pkl), whole or not at all.

    ``h36m_regressor`` is a .npy (17, 6890) of the user's own; without one it is made (see
    ``h36m_transfer``). The same files give the same bytes. Raises DataError for a source that asks for
    anything but arrays, or whose arrays are no SMPL body, and ParamsError for an output that is no .npz.
    """
    if output.suffix != ".npz":
        raise ParamsError(f"{output}: the converted body is an .npz file; name it so")
    arrays = read_official(source)
    if h36m_regressor is None:
        rows, off_mm = transfer_regressor(arrays)
        origin, fit_mm = DERIVED, round(float(off_mm.mean()), 1)
    else:
        rows, origin, fit_mm = read_h36m_regressor(h36m_regressor, arrays["v_template"]), "the user's", None
    meta: dict[str, Any] = {
        "name": f"SMPL, from {source.name}",
        "is_smpl": True,
        "licence": LICENCE,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "J_regressor_h36m": origin,
    }
    body = arrays | {
        "J_regressor_h36m": rows,
        "landmarks": official_landmarks(),
        "meta": np.array(json.dumps(meta, sort_keys=True)),
    }
    problem = body_problem(body)
    if problem:
        raise DataError(source, f"is no SMPL body: {problem}", CURE)
    _write(output, body)
    return Conversion(body, origin, fit_mm)


def read_official(source: Path) -> dict[str, np.ndarray]:
    """SMPL's own arrays from its .pkl, checked: of any number of shape components the first ten."""
    found = read_array_pickle(source)
    missing = [key for key in NEEDED if key not in found]
    if missing:
        raise DataError(source, f"is no SMPL body: holds no array {', '.join(missing)}", CURE)
    arrays = {key: found[key] for key in NEEDED}
    for key in FLOATS:
        arrays[key] = arrays[key].astype(np.float64)
    for key in ("kintree_table", "f"):
        if arrays[key].dtype.kind not in "iu":
            raise DataError(source, f"is no SMPL body: {key} holds {arrays[key].dtype}, no integers", CURE)
    arrays["f"] = arrays["f"].astype(np.uint32) if arrays["f"].min(initial=0) >= 0 else arrays["f"]
    arrays["kintree_table"] = (arrays["kintree_table"].astype(np.int64) % 2**32).astype(np.uint32)
    if arrays["shapedirs"].ndim == 3:  # v1.1.0 has up to 300
        arrays["shapedirs"] = np.ascontiguousarray(arrays["shapedirs"][..., :N_BETAS])
    problem = _official_problem(arrays)
    if problem:
        raise DataError(source, f"is no SMPL body: {problem}", CURE)
    return arrays


def _official_problem(arrays: Mapping[str, np.ndarray]) -> str | None:
    template = arrays["v_template"]
    if template.shape != (N_VERTICES, 3):
        return f"v_template has shape {template.shape}, not ({N_VERTICES}, 3)"
    stand_in = {
        "J_regressor_h36m": np.full((len(H36M_JOINTS), N_VERTICES), 1 / N_VERTICES),
        "landmarks": official_landmarks(), "meta": np.array("{}"),
    }  # fmt: skip
    problem = body_problem({**arrays, **stand_in})
    if problem:
        return problem
    if arrays["weights"].min() < 0:
        return "weights are negative"
    stature = float(np.ptp(template[:, 1]))
    if not STATURE_M[0] < stature < STATURE_M[1]:
        return f"the mean body is {stature:.3g} high along y, not a person's metres"
    left, right = ((arrays["J_regressor"] @ template)[j] for j in (1, 2))
    if left[0] <= right[0]:
        return "the left hip is not at greater x than the right"
    return None


def read_h36m_regressor(path: Path, template: np.ndarray) -> np.ndarray:
    """A user's (17, V) regressor from a .npy, checked, its rows scaled to sum to exactly 1."""
    cure = f"give a .npy of {len(H36M_JOINTS)} rows in the order of geobody.conventions.H36M_JOINTS"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, f"is no readable array ({type(error).__name__})", cure) from None
    expected = (len(H36M_JOINTS), len(template))
    if not isinstance(rows, np.ndarray) or rows.shape != expected or rows.dtype.kind != "f":
        found = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else "an archive"
        raise DataError(path, f"is {found}, not floating point {expected}", cure)
    rows = rows.astype(np.float64)
    sums = rows.sum(1)
    if not np.isfinite(rows).all() or np.abs(sums - 1).max() > 100 * ROW_SUM_TOLERANCE:
        raise DataError(path, "has rows that do not sum to one", cure)
    joints = (rows / sums[:, None]) @ template
    middle = joints[0, 0]
    for name, joint in zip(H36M_JOINTS, joints, strict=True):
        side = 1 if name.startswith("left_") else -1 if name.startswith("right_") else 0
        if side * (joint[0] - middle) < 0:
            raise DataError(path, f"puts the {name.replace('_', ' ')} on the body's other side", cure)
    if (
        not joints[H36M_JOINTS.index("head_top"), 1]
        > joints[0, 1]
        > joints[H36M_JOINTS.index("left_ankle"), 1]
    ):
        raise DataError(path, "puts the head below the hip, or the hip below the feet", cure)
    return rows / sums[:, None]


def official_landmarks() -> np.ndarray:
    """smplx's own 21 vertex ids (21,) on SMPL's 6,890 vertices, in the order of ``LANDMARKS``."""
    from smplx.vertex_ids import vertex_ids

    return np.array([vertex_ids["smplh"][name] for name in LANDMARKS], dtype=np.int64)


def _write(output: Path, arrays: Mapping[str, np.ndarray]) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            os.chmod(name, 0o644)
            os.replace(name, output)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(output, f"cannot be written ({error.strerror})", "choose another place") from None
