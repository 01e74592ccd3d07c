"""Bodies posed from axis-angle, the same bits on however many threads."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from geobody.body.model import BodyModel

BODIES_AT_ONCE: Final = 128


@functools.cache
def load_body(path: Path) -> BodyModel:
    """The body of a file, one copy per process. Raises DataError if the file holds none."""
    return BodyModel.load(path)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """torch computes with one thread: with more, the last bits would depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pose_bodies(
    model: BodyModel, pose: np.ndarray, betas: np.ndarray, transl_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (F,V,3) and joints (F,24,3), float64 copies of the model's float32, from axis-angle."""
    matrices = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    rotations = torch.from_numpy(matrices.astype(np.float32))
    vertices, joints = [], []
    with _one_thread(), torch.inference_mode():
        for start in range(0, len(pose), BODIES_AT_ONCE):
            part = rotations[start : start + BODIES_AT_ONCE]
            out = model(
                betas=torch.from_numpy(betas).expand(len(part), -1),
                body_pose=part[:, 1:],
                global_orient=part[:, 0],
                transl=torch.from_numpy(transl_m[start : start + BODIES_AT_ONCE]),
            )
            vertices.append(out.vertices.numpy())
            joints.append(out.joints.numpy())
    return np.concatenate(vertices).astype(np.float64), np.concatenate(joints).astype(np.float64)
