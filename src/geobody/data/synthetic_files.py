"""What a synthetic set leaves beside its images: cameras and poses, the truth, a SURREAL-layout set."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from geobody.body.model import BodyModel
from geobody.conventions import N_BETAS, WORLD_FROM_BODY
from geobody.data.actions import surreal_sequences
from geobody.data.motions import Motion
from geobody.data.posed_bodies import load_body, pose_bodies
from geobody.progress import progress

SURREAL_SUBJECTS: Final[dict[str, tuple[int, ...]]] = {"train": (1, 5, 6, 7), "val": (8,)}
"""Whose motion each split of the SURREAL-layout set is drawn from: the prior is judged on takes,
performances and shapes that it was not trained on."""

MAT_HEADER: Final = b"MATLAB 5.0 MAT-file, written by geobody".ljust(116)
TRUTH_SCHEMA: Final = pa.schema(
    [
        ("subject", pa.int32()),
        ("action", pa.int32()),
        ("subaction", pa.int32()),
        ("frame", pa.int32()),
        ("pose", pa.list_(pa.float32(), 72)),
        ("betas", pa.list_(pa.float32(), N_BETAS)),
        ("transl_m", pa.list_(pa.float32(), 3)),
    ]
)


@dataclass(frozen=True)
class Performance:
    """What one (subject, action, subaction) was: truth of its frames, and facts about its views.

    pose (F,72) float32 axis-angle, the root maps body -> world; betas (10,), transl_m (F,3) float32;
    facing_deg (F,4) angle between the body's front and the camera; joints_hidden (F,4) share of the
    17 joints behind a chair; crosses_crop, crosses_image (F,4) bool.
    """

    subject: int
    action: int
    subaction: int
    pose: np.ndarray
    betas: np.ndarray
    transl_m: np.ndarray
    facing_deg: np.ndarray
    joints_hidden: np.ndarray
    crosses_crop: np.ndarray
    crosses_image: np.ndarray


def write_mat(path: Path, fields: dict[str, Any]) -> None:
    """A Matlab 5 file whose bytes depend on ``fields`` alone (scipy's header holds the date)."""
    buffer = io.BytesIO()
    savemat(buffer, fields)
    data = bytearray(buffer.getvalue())
    data[: len(MAT_HEADER)] = MAT_HEADER
    path.write_bytes(bytes(data))


def write_truth(folder: Path, performances: Sequence[Performance]) -> None:
    """``folder/truth.parquet``: theta (72), beta (10) and translation (3) of every frame."""
    rows = [(p, f) for p in performances for f in range(len(p.pose))]
    columns: list[Any] = [
        [p.subject for p, _ in rows],
        [p.action for p, _ in rows],
        [p.subaction for p, _ in rows],
        [f + 1 for _, f in rows],
        [p.pose[f] for p, f in rows],
        [p.betas for p, _ in rows],
        [p.transl_m[f] for p, f in rows],
    ]
    arrays = [pa.array(c, type=field.type) for c, field in zip(columns, TRUTH_SCHEMA, strict=True)]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_arrays(arrays, schema=TRUTH_SCHEMA), folder / "truth.parquet")


def write_surreal(
    folder: Path, *, body: Path, motions: Path, seed: int, sequences: Mapping[str, int], frames: int
) -> dict[str, list[np.ndarray]]:
    """A set of poses and shapes in SURREAL's layout under ``folder``; returns the poses (F,72) of each.

    ``sequences``: how many of ``frames`` frames each split of ``SURREAL_SUBJECTS`` gets. The root's
    rotation is left in the motion's own frame (y up), as SURREAL leaves it in the capture's, turned by
    ``zrot`` about the vertical; joints3D are in metres in a z-up world.
    """
    model = load_body(body)
    written: dict[str, list[np.ndarray]] = {}
    for which, (split, subjects) in enumerate(SURREAL_SUBJECTS.items()):
        found = surreal_sequences(
            count=sequences[split], frames=frames, seed=seed, motions=motions, subjects=subjects
        )
        for number, motion in enumerate(progress(found, desc=f"{split} poses for the prior"), start=1):
            rng = np.random.default_rng([seed, 7303, which, number])
            betas = np.clip(rng.normal(0, 1, N_BETAS), -2.5, 2.5).astype(np.float32)
            name = f"{split}_{number:04d}"
            place = folder / "cmu" / split / "run0" / name
            place.mkdir(parents=True)
            fields = _info(model, motion, betas=betas, heading=rng.uniform(-np.pi, np.pi), name=name)
            write_mat(place / f"{name}_c0001_info.mat", fields)
        written[split] = [motion.poses.reshape(-1, 72) for motion in found]
    return written


def _info(
    model: BodyModel, motion: Motion, *, betas: np.ndarray, heading: float, name: str
) -> dict[str, Any]:
    """The fields of one clip's info file."""
    n = len(motion)
    pose = motion.poses.reshape(n, 72).astype(np.float32)
    upright = Rotation.from_euler("z", heading) * Rotation.from_matrix(np.array(WORLD_FROM_BODY))
    in_world = pose.copy()
    in_world[:, :3] = (upright * Rotation.from_rotvec(pose[:, :3])).as_rotvec()
    joints = pose_bodies(model, in_world, betas, np.zeros((n, 3), np.float32))[1]
    return {
        "gender": np.full((n, 1), int(betas[0] > 0), np.uint8),
        "joints3D": np.ascontiguousarray(joints.transpose(2, 1, 0), dtype=np.float32),
        "pose": np.ascontiguousarray(pose.T),
        "sequence": name,
        "shape": np.tile(betas[:, None], (1, n)),
        "zrot": np.full((n, 1), heading, np.float32),
    }
