"""What the models say of every test image, row by row: ``data/eval/predictions.parquet``.

The same of the bodies for evaluation alone: ``data/eval/evaluation_bodies.parquet``, without rows where
a data set has none.

All metrics are computed from these columns, at the precision in which they are stored, so that
other code gets the same numbers from the file. Joints are root-centred in the crop frame, in mm;
theta is axis-angle in radians with the root in the crop frame too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geobody.body.model import BodyModel
from geobody.conventions import N_BETAS, SMPL_JOINTS
from geobody.data.crops import CropShards
from geobody.data.manifest import check_file, read_hashes
from geobody.errors import DataError
from geobody.geometry.axis_angle import to_axis_angle, to_matrices
from geobody.models.controls import load_mean_body, load_mean_pose, predict_cnn
from geobody.models.pose_head import predict_pose
from geobody.models.regressor import posed_bodies, predict_body

N_THETA: Final = 3 * len(SMPL_JOINTS)

KEYS: Final = {
    "key": pa.string(), "subject": pa.int16(), "action": pa.int16(), "subaction": pa.int16(),
    "camera": pa.int16(), "frame": pa.int32(),
}  # fmt: skip
VECTORS: Final = {
    "joints_true_mm": 51, "joints_pred_mm": 51, "joints_cnn_s1_mm": 51, "joints_cnn_all_mm": 51,
    "joints_mean_pose_mm": 51, "smpl_joints_pred_mm": 51,
    "theta_true": N_THETA, "theta_pred": N_THETA, "theta_mean_body": N_THETA,
    "betas_true": N_BETAS, "betas_pred": N_BETAS, "betas_mean_body": N_BETAS,
}  # fmt: skip
SCALARS: Final = (
    "iou_input", "iou_others",
    "iou_true_body", "nvs_psnr_person_db", "nvs_psnr_crop_db", "nvs_ssim_person", "nvs_ssim_crop",
    "background_psnr_person_db", "background_psnr_crop_db", "background_ssim_person", "background_ssim_crop",
)  # fmt: skip
"""Measured on some images only; null on the others."""

TRUTH: Final = "truth/truth.parquet"
"""Where a data set's root holds theta and beta of the people in the images; only a synthetic set does."""

_TRUTH_CURE = "make it with `dvc repro synth`, or take it away and write the manifest without it"


@dataclass(frozen=True)
class Predictions:
    """Columns of the file as arrays of N rows; vectors are (N,size) float32, NaN is null."""

    columns: Mapping[str, NDArray]

    @classmethod
    def none(cls) -> "Predictions":
        """No rows."""
        columns: dict[str, NDArray] = {name: np.zeros(0, dtype=object) for name in KEYS}
        columns |= {name: np.zeros((0, size), dtype=np.float32) for name, size in VECTORS.items()}
        return cls(columns | {name: np.zeros(0) for name in SCALARS})

    def __len__(self) -> int:
        return len(self.columns["key"])

    @property
    def has_truth(self) -> bool:
        """Whether theta and beta of the people in the images are known."""
        return bool(np.isfinite(self.columns["theta_true"]).all())

    def joints(self, name: str) -> NDArray[np.float64]:
        """Joints (N,17,3), mm, of a column such as "joints_pred_mm"."""
        return self.columns[name].reshape(len(self), -1, 3).astype(np.float64)

    def rotations(self, who: str) -> NDArray[np.float64]:
        """Rotation matrices (N,24,3,3) of ``theta_<who>``: "true", "pred" or "mean_body"."""
        return to_matrices(self.columns[f"theta_{who}"])

    def betas(self, who: str) -> NDArray[np.float64]:
        """(N,10) of ``betas_<who>``."""
        return self.columns[f"betas_{who}"].astype(np.float64)

    def vertices_mm(self, who: str, body: BodyModel) -> NDArray[np.float32]:
        """Bodies (N,V,3) of ``who``, root-centred in the crop frame."""
        rotations, betas = (x.astype(np.float32) for x in (self.rotations(who), self.betas(who)))
        return posed_bodies(body, rotations=rotations, betas=betas)["vertices_mm"]

    def take(self, rows: NDArray) -> "Predictions":
        """Some of the rows, in the order given."""
        return Predictions({name: values[rows] for name, values in self.columns.items()})

    def write(self, path: Path) -> None:
        """Writes the table; NaN becomes null."""
        arrays = [pa.array(self.columns[name].tolist(), type=kind) for name, kind in KEYS.items()]
        for name, size in VECTORS.items():
            values = np.ascontiguousarray(self.columns[name], dtype=np.float32)
            empty = ~np.isfinite(values).all(axis=1)
            flat = pa.array(values.ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, size)
            arrays.append(pa.array([None] * len(self), column.type) if empty.all() else column)
        arrays += [pa.array(self.columns[name], pa.float64(), from_pandas=True) for name in SCALARS]
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(arrays, names=[*KEYS, *VECTORS, *SCALARS]), path, compression="zstd")


def gather(
    *,
    shards: CropShards,
    rows: NDArray[np.int64],
    l3d: NDArray,
    lapp: NDArray,
    models: Mapping[str, Path],
    body: BodyModel,
    truth: Path | None,
) -> Predictions:
    """Predictions of crops ``rows``.

    ``models`` holds the files of stages pose_head, controls and smpl_regressor; ``l3d`` and
    ``lapp`` are the embeddings of all crops; ``truth`` is the file of `find_truth`, or
    None where theta and beta are not known.
    """
    table, n = shards.table, len(rows)
    known = read_truth(truth, shards, rows)
    points, appearance = np.asarray(l3d[rows]), np.asarray(lapp[rows])
    images, masks_diff = np.asarray(shards.images[rows]), np.asarray(shards.masks_diff[rows])
    found = predict_body(models["smpl_regressor"], points, appearance)
    theta, betas = to_axis_angle(found["rotations"]), found["betas"].astype(np.float32)
    mean_body = load_mean_body(models["controls"])
    mean_rotations = np.concatenate([mean_body.global_orient[None], mean_body.body_pose])
    columns: dict[str, NDArray] = {name: np.asarray(table[name][rows]) for name in KEYS}
    columns |= {
        "joints_true_mm": table["joints_mm"][rows],
        "joints_pred_mm": predict_pose(models["pose_head"], points),
        "joints_cnn_s1_mm": predict_cnn(models["controls"], "cnn_s1", images, masks_diff),
        "joints_cnn_all_mm": predict_cnn(models["controls"], "cnn_all", images, masks_diff),
        "joints_mean_pose_mm": np.repeat(load_mean_pose(models["controls"])[None], n, axis=0),
        "smpl_joints_pred_mm": posed_bodies(
            body, rotations=to_matrices(theta).astype(np.float32), betas=betas, with_vertices=False
        )["joints17_mm"],
        "theta_pred": theta,
        "betas_pred": betas,
        "theta_mean_body": np.repeat(to_axis_angle(mean_rotations[None]), n, axis=0),
        "betas_mean_body": np.repeat(mean_body.betas[None], n, axis=0),
    }
    columns |= known
    for name, size in VECTORS.items():
        columns[name] = np.asarray(columns[name], dtype=np.float32).reshape(n, size)
    columns |= {name: np.full(n, np.nan) for name in SCALARS}
    return Predictions(columns)


def find_truth(manifest: Path) -> Path | None:
    """The truth's file, if the data set's manifest lists one. Raises DataError if its bytes are not those."""
    expected = read_hashes(manifest, suffix=TRUTH).get(TRUTH)
    if expected is None:
        return None
    check_file(manifest.parent / TRUTH, expected)
    return manifest.parent / TRUTH


def read_truth(path: Path | None, shards: CropShards, rows: NDArray[np.int64]) -> dict[str, NDArray]:
    """``theta_true`` (N,72), the root turned from the world into each crop, and ``betas_true`` (N,10).

    NaN where nothing is known. Raises DataError if the file lacks one of the images.
    """
    n = len(rows)
    unknown = {"theta_true": np.full((n, N_THETA), np.nan), "betas_true": np.full((n, N_BETAS), np.nan)}
    if path is None:
        return unknown
    try:
        table = pq.read_table(path, columns=["subject", "action", "subaction", "frame", "pose", "betas"])
        names = [table.column(name).to_numpy() for name in ("subject", "action", "subaction", "frame")]
        pose = np.array(table.column("pose").to_pylist(), dtype=np.float64).reshape(-1, N_THETA)
        betas = np.array(table.column("betas").to_pylist(), dtype=np.float64).reshape(-1, N_BETAS)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise DataError(path, "holds no truth (pose and betas by frame)", _TRUTH_CURE) from error
    place = {moment: i for i, moment in enumerate(zip(*(x.tolist() for x in names), strict=True))}
    moments = zip(
        *(shards.table[name][rows].tolist() for name in ("subject", "action", "subaction", "frame")),
        strict=True,
    )
    try:
        lines = np.array([place[moment] for moment in moments], dtype=np.int64)
    except KeyError as error:
        raise DataError(path, f"knows no (subject, action, subaction, frame) {error}", _TRUTH_CURE) from None
    rotations = to_matrices(pose[lines])
    rotations[:, 0] = shards.table["R_world_to_crop"][rows] @ rotations[:, 0]
    return {"theta_true": to_axis_angle(rotations), "betas_true": betas[lines]}
