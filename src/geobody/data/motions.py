"""Motion of 24 SMPL joints: what it is, reading a folder of it, and multiplying it."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from geobody.conventions import SMPL_MIRROR

Array = NDArray[np.float64]

MAIN_JOINTS: Final = (1, 2, 3, 4, 5, 6, 9, 12, 16, 17, 18, 19)
"""Hips, knees, shoulders, elbows, the spine's three joints and the neck: what makes a pose."""


@dataclass(frozen=True)
class Motion:
    """Poses of one body over time.

    ``poses`` (T,24,3): axis-angle, the root first; the root maps the body to a y-up room.
    ``transl_m`` (T,3): the pelvis in that room, metres. ``split``: "train" or "test".
    """

    poses: Array
    transl_m: Array
    name: str
    split: str

    def __len__(self) -> int:
        return len(self.poses)


def mirror(motion: Motion) -> Motion:
    """The motion seen in a mirror: left and right exchanged across the plane x = 0."""
    poses = motion.poses[:, list(SMPL_MIRROR)] * np.array([1.0, -1.0, -1.0])
    return replace(motion, poses=poses, transl_m=motion.transl_m * np.array([-1.0, 1.0, 1.0]))


def resample(motion: Motion, times: Array, rate_hz: float) -> Motion:
    """The motion, sampled at ``rate_hz``, at other ``times`` (seconds, within it): slerp and linear."""
    clock = np.arange(len(motion)) / rate_hz
    times = np.clip(times, 0, clock[-1])
    poses = np.stack(
        [Slerp(clock, Rotation.from_rotvec(motion.poses[:, j]))(times).as_rotvec() for j in range(24)], axis=1
    )
    transl = np.stack([np.interp(times, clock, motion.transl_m[:, c]) for c in range(3)], axis=1)
    return replace(motion, poses=poses, transl_m=transl)


def blend(first: Array, second: Array, weight: Array) -> Array:
    """Rotations (T,J,3) that lie ``weight`` (T,J or T,1; 0 to 1) of the way from ``first`` to ``second``."""
    shape = first.shape
    start = Rotation.from_rotvec(first.reshape(-1, 3))
    way = (start.inv() * Rotation.from_rotvec(second.reshape(-1, 3))).as_rotvec().reshape(shape)
    part = Rotation.from_rotvec((way * np.broadcast_to(weight, shape[:2])[..., None]).reshape(-1, 3))
    return np.asarray((start * part).as_rotvec().reshape(shape))
