"""Poses and shapes for the prior in two files: read once from the SURREAL-layout set, then by every stage.

The set itself is tens of thousands of small files; four stages would each list all of them.
"""

from pathlib import Path
from typing import Final

import numpy as np

from geobody.data.surreal import SurrealPoses
from geobody.errors import DataError

PRIOR_SPLITS: Final = ("train", "val")
"""What the prior learns from, and what nothing but its evaluation reads."""

_CURE: Final = "run `dvc repro prior_poses`"


def write_prior_poses(folder: Path, split: str, poses: SurrealPoses) -> None:
    """Writes ``<split>.npz`` below ``folder``: the arrays of ``SurrealPoses``; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / f"{split}.npz",
        body_pose=poses.body_pose,
        root=poses.root,
        betas=poses.betas,
        sequence_id=poses.sequence_id,
        sequences=np.array(poses.sequences, dtype=np.str_),
        n_dropped=np.int64(poses.n_dropped),
    )


def read_prior_poses(folder: Path, *, split: str = "train") -> SurrealPoses:
    """The poses of a split. Raises DataError if the file is missing or is not what the stage wrote."""
    path = folder / f"{split}.npz"
    if not path.is_file():
        raise DataError(path, "is missing", _CURE)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return SurrealPoses(
                body_pose=arrays["body_pose"],
                root=arrays["root"],
                betas=arrays["betas"],
                sequence_id=arrays["sequence_id"],
                sequences=tuple(map(str, arrays["sequences"])),
                n_dropped=int(arrays["n_dropped"]),
            )
    except Exception as error:  # numpy and zipfile raise a different type for nearly every damage
        raise DataError(path, f"is not readable ({type(error).__name__})", _CURE) from error
