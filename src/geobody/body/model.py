"""One body model behind one interface: a file in SMPL's format, posed by smplx."""

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import smplx
import torch
from smplx.utils import Struct
from torch import Tensor, nn

from geobody.conventions import H36M_JOINTS, N_BETAS, SMPL_JOINTS, SMPL_PARENTS
from geobody.errors import DataError

N_JOINTS: Final = len(SMPL_JOINTS)
N_POSE_BASIS: Final = 9 * (N_JOINTS - 1)
LANDMARKS: Final = (
    "nose", "reye", "leye", "rear", "lear", "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe",
    "RHeel", "lthumb", "lindex", "lmiddle", "lring", "lpinky", "rthumb", "rindex", "rmiddle", "rring",
    "rpinky",
)  # fmt: skip
"""Names, in smplx's own spelling, of the 21 vertices that smplx appends to the joints."""

CURE: Final = "make it with `dvc repro body`, or convert a licensed file to the format in data/README.md"
ROW_SUM_TOLERANCE: Final = 1e-4


class BodyOutput(NamedTuple):
    """Posed bodies: vertices (B, V, 3), joints (B, 24, 3), joints_h36m (B, 17, 3), metres."""

    vertices: Tensor
    joints: Tensor
    joints_h36m: Tensor


def read_body(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a body file (.npz), checked for shape, finiteness and consistency.

    Keys as SMPL's: v_template (V, 3) metres, shapedirs (V, 3, 10), posedirs (V, 3, 207),
    J_regressor (24, V), weights (V, 24), kintree_table (2, 24), f (F, 3); and J_regressor_h36m
    (17, V), landmarks (21,), meta (the text of a JSON object). Raises ``DataError`` for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "no such body file", CURE)
    arrays = _unpack(path)
    problem = body_problem(arrays)
    if problem:
        raise DataError(path, problem, CURE)
    return arrays


def _unpack(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(path, "is no .npz archive, or one cut short", CURE)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", CURE) from None
    key = "its list of arrays"
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = archive[key]
    except Exception as error:  # damaged bytes can raise whatever zipfile, zlib and numpy can raise
        raise DataError(path, f"{key} cannot be read: damaged, or no plain array", CURE) from error
    return arrays


def body_problem(arrays: dict[str, np.ndarray]) -> str | None:
    """What makes these arrays no body, in words, or None."""
    needed = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f",
              "J_regressor_h36m", "landmarks", "meta")  # fmt: skip
    missing = [key for key in needed if key not in arrays]
    if missing:
        return f"no body: lacks {', '.join(missing)}"
    strange = [key for key in needed if not isinstance(arrays[key], np.ndarray)]
    if strange:
        return f"{strange[0]} is no array"
    n_vertices = len(arrays["v_template"]) if arrays["v_template"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {
        "v_template": (n_vertices, 3), "shapedirs": (n_vertices, 3, N_BETAS),
        "posedirs": (n_vertices, 3, N_POSE_BASIS), "J_regressor": (N_JOINTS, n_vertices),
        "weights": (n_vertices, N_JOINTS), "kintree_table": (2, N_JOINTS),
        "J_regressor_h36m": (len(H36M_JOINTS), n_vertices), "landmarks": (len(LANDMARKS),),
    }  # fmt: skip
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            return f"{key} has shape {arrays[key].shape}, expected {shape}"
    for key in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "J_regressor_h36m"):
        if arrays[key].dtype.kind != "f":
            return f"{key} holds {arrays[key].dtype}, expected floating point"
        if not np.isfinite(arrays[key]).all():
            return f"{key} holds NaN or infinity"
    for key in ("kintree_table", "f", "landmarks"):
        if arrays[key].dtype.kind not in "ui":
            return f"{key} holds {arrays[key].dtype}, expected integers"
    faces = arrays["f"]
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
        return f"f has shape {faces.shape}, expected (F, 3)"
    for key in ("f", "landmarks"):
        if arrays[key].min() < 0 or arrays[key].max() >= n_vertices:
            return f"{key} names a vertex beyond the {n_vertices} there are"
    parents = tuple(int(p) for p in arrays["kintree_table"][0, 1:])
    if parents != SMPL_PARENTS[1:]:
        return "kintree_table is not SMPL's tree of 24 joints"
    for key, axis in (("J_regressor", 1), ("J_regressor_h36m", 1), ("weights", 1)):
        off = float(np.abs(arrays[key].sum(axis) - 1).max())
        if off > ROW_SUM_TOLERANCE:
            return f"rows of {key} do not sum to one (off by up to {off:.2g})"
    if not isinstance(_meta(arrays), dict):
        return "meta is no JSON object"
    return None


def _meta(arrays: dict[str, np.ndarray]) -> Any:
    try:
        return json.loads(str(arrays["meta"]))
    except (ValueError, RecursionError):
        return None


class BodyModel(nn.Module):
    """Poses and shapes a body by linear blend skinning with pose correctives (SMPL's formula).

    Holds no trainable parameter. ``faces`` (F, 3) int64, ``num_vertices``, ``J_regressor_h36m``
    (17, V), ``v_template`` (V, 3) and ``meta`` (what the file says of itself) are attributes.
    """

    faces: Tensor
    J_regressor_h36m: Tensor

    def __init__(self, *, arrays: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        keys = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
        struct = Struct(**{key: arrays[key] for key in keys})
        struct.f = arrays["f"].astype(np.int64)
        struct.kintree_table = arrays["kintree_table"].astype(np.int64)
        with contextlib.redirect_stdout(io.StringIO()):  # smplx prints that there are "only" 10 betas
            self.smpl = smplx.SMPLLayer(
                "",
                data_struct=struct,
                dtype=dtype,
                vertex_ids=dict(zip(LANDMARKS, arrays["landmarks"].tolist(), strict=True)),
            )
        self.smpl.requires_grad_(False)
        self.register_buffer("faces", torch.from_numpy(arrays["f"].astype(np.int64)))
        self.register_buffer("J_regressor_h36m", torch.from_numpy(arrays["J_regressor_h36m"]).to(dtype))
        self.meta: dict[str, Any] = _meta(arrays)
        self.eval()

    @classmethod
    def load(cls, path: Path | str, dtype: torch.dtype = torch.float32) -> "BodyModel":
        """A body model from a body file. Raises ``DataError`` when the file holds no body."""
        return cls(arrays=read_body(path), dtype=dtype)

    @property
    def num_vertices(self) -> int:
        return int(self.smpl.v_template.shape[0])

    @property
    def v_template(self) -> Tensor:
        return self.smpl.v_template

    def forward(
        self, *, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor
    ) -> BodyOutput:
        """Posed bodies, metres.

        betas (B, 10); body_pose (B, 23, 3, 3) and global_orient (B, 3, 3) rotation matrices, the
        latter from the body's frame to the caller's; transl (B, 3) metres, added last.
        """
        if global_orient.dim() == 3:
            global_orient = global_orient[:, None]
        output = self.smpl(
            betas=betas, body_pose=body_pose, global_orient=global_orient, transl=transl, pose2rot=False
        )
        joints_h36m = torch.einsum("jv,bvc->bjc", self.J_regressor_h36m, output.vertices)
        return BodyOutput(output.vertices, output.joints[:, :N_JOINTS], joints_h36m)
