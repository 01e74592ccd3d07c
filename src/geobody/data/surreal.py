"""Poses and shapes of a SURREAL-layout set: theta, its root apart, and beta.

The set holds ``cmu/{train,val,test}/run*/<sequence>/<sequence>_c0001_info.mat`` (and further
clips ``_c0002`` ...). Only these info files are read: they are 1 % of the set's bytes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.io import loadmat

from geobody.conventions import N_BETAS, SMPL_JOINTS
from geobody.errors import DataError
from geobody.progress import progress

SPLITS: Final = ("train", "val", "test")
N_BODY_JOINTS: Final = len(SMPL_JOINTS) - 1

BROKEN_SHAPES: Final = re.compile(r"^(ung_)?(18_\d+|19_\d+|143_21)$")
"""Sequences whose shapes are known to be broken: CMU subjects 18 and 19, and sequence 143_21."""

_INFO_NAME: Final = re.compile(r"^(?P<sequence>.+)_c\d{4}_info\.mat$")
LARGEST_BETA: Final = 10.0
"""Betas count standard deviations of people: beyond this, or not a number, a shape is broken too."""

_CURE: Final = "run `dvc repro synth`, or point params.yaml: prior.root at a SURREAL set"
_MEND: Final = "get the file again, or take it out of the folder of params.yaml: prior.root"

InfoReader = Callable[[Path], tuple[np.ndarray, np.ndarray]]
"""theta and beta of an info file."""


@dataclass(frozen=True)
class SurrealPoses:
    """Poses in the set's own order: split, run, sequence, clip, frame.

    body_pose     (N,23,3) float32, axis-angle in radians, SMPL's joints 1..23
    root          (N,3) float32, axis-angle of the root in the capture's frame, which nothing here can
                  undo: a prior must not judge by it
    betas         (N,10) float32, as they are: SURREAL's belong to SMPL's female and male models, here
                  they are taken together, as shapes in standard deviations
    sequence_id   (N,) int32, index into ``sequences``; clips and runs of one motion share it
    sequences     names of the sequences, sorted
    n_dropped     sequences left out because their shapes are broken: those known for it, and those of
                  which a clip has betas that are not finite or beyond ``LARGEST_BETA``
    """

    body_pose: np.ndarray
    root: np.ndarray
    betas: np.ndarray
    sequence_id: np.ndarray
    sequences: tuple[str, ...]
    n_dropped: int

    def __len__(self) -> int:
        return len(self.betas)


def read_surreal(
    root: Path, *, split: str = "train", stride: int = 1, read: InfoReader | None = None
) -> SurrealPoses:
    """Every ``stride``-th frame of the clips of a split, as ``SurrealPoses``.

    ``root`` holds ``cmu/``. ``read`` stands in for `read_info`. Sequences with broken shapes are left out
    and counted. Raises DataError if the split is not there, a file cannot be read, a field is missing or
    has another size, or a pose is not finite.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: one of {', '.join(SPLITS)}")
    folder = root / "cmu" / split
    if not folder.is_dir():
        raise DataError(folder, "no such folder", f"copy SURREAL's cmu/{split} there, or {_CURE}")
    files = sorted(folder.glob("run*/*/*_info.mat"))
    if not files:
        raise DataError(folder, "holds no run*/<sequence>/<sequence>_c0001_info.mat", _CURE)

    names = [_sequence_name(path) for path in files]
    broken = {name for name in names if BROKEN_SHAPES.match(name)}
    clips = [clip for clip in zip(names, files, strict=True) if clip[0] not in broken]
    read = read or read_info
    taken: list[tuple[str, np.ndarray, np.ndarray]] = []
    for name, path in progress(clips, desc="SURREAL info files"):
        pose, shape = read(path)
        if shape_is_broken(shape):
            broken.add(name)
        else:
            # Copies: views would keep it all.
            taken.append((name, pose[::stride].copy(), shape[::stride].copy()))
    # A sequence goes with the first broken clip.
    whole = [clip for clip in taken if clip[0] not in broken]
    if not whole:
        raise DataError(folder, "holds only sequences with broken shapes", _CURE)

    sequences = tuple(sorted({name for name, _, _ in whole}))
    ids = {name: number for number, name in enumerate(sequences)}
    theta = np.concatenate([pose for _, pose, _ in whole])
    return SurrealPoses(
        body_pose=theta[:, 3:].reshape(-1, N_BODY_JOINTS, 3),
        root=theta[:, :3],
        betas=np.concatenate([shape for _, _, shape in whole]),
        sequence_id=np.concatenate(
            [np.full(len(pose), ids[name], dtype=np.int32) for name, pose, _ in whole]
        ),
        sequences=sequences,
        n_dropped=len(broken),
    )


def shape_is_broken(betas: np.ndarray) -> bool:
    """Whether betas (T,10) are no person's: not finite, or beyond ``LARGEST_BETA``."""
    return not bool((np.abs(betas) <= LARGEST_BETA).all())  # NaN compares false


def read_info(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """theta (T,72) and beta (T,10) of one info file, float32; the root is still in its capture frame.

    A clip of one frame may hold vectors. theta is finite; beta may be broken (`shape_is_broken`).
    """
    try:
        fields = loadmat(path, variable_names=("pose", "shape"))
    except Exception as error:  # loadmat raises a different type for nearly every way to break a file
        raise DataError(path, f"is no readable .mat file ({type(error).__name__})", _MEND) from error
    pose = _frames(path, fields, "pose", 3 * len(SMPL_JOINTS))
    shape = _frames(path, fields, "shape", N_BETAS)
    if len(pose) != len(shape):
        raise DataError(path, f"'pose' has {len(pose)} frames and 'shape' has {len(shape)}", _MEND)
    if not np.isfinite(pose).all():
        raise DataError(path, "field 'pose' holds numbers that are not finite", _MEND)
    return pose, shape


def _frames(path: Path, fields: dict[str, np.ndarray], name: str, size: int) -> np.ndarray:
    """A (size,T) field as (T,size). A clip of one frame comes as (size,1), (1,size) or (size,)."""
    if name not in fields:
        raise DataError(path, f"has no field {name!r}", _MEND)
    values = np.asarray(fields[name])
    if values.dtype.kind not in "fiu":
        raise DataError(path, f"field {name!r} holds no numbers", _MEND)
    if values.size == size:
        values = values.reshape(size, 1)
    if values.ndim != 2 or values.shape[0] != size or values.shape[1] == 0:
        raise DataError(path, f"field {name!r} has shape {values.shape}, not ({size}, T)", _MEND)
    values = values.T.astype(np.float32)
    return values


def _sequence_name(path: Path) -> str:
    match = _INFO_NAME.match(path.name)
    if match is None or match["sequence"] != path.parent.name:
        raise DataError(
            path,
            "is not named <sequence>_c0001_info.mat after its folder",
            "rename it or take it out of the set",
        )
    return match["sequence"]
