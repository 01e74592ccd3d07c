"""Crop shards of random people, geometrically consistent, for tests of what is trained on crops."""

from pathlib import Path

import cv2
import numpy as np

from geobody.conventions import H36M_PARENTS, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.crops import create_arrays, write_table
from geobody.data.index import split_of
from geobody.geometry.cameras import VirtualCamera, look_at, project_crop

STANDING_MM = 1000 * np.array(
    [
        [0, 0, 0], [-0.13, 0, 0], [-0.13, 0, -0.44], [-0.13, 0.03, -0.88], [0.13, 0, 0], [0.13, 0, -0.44],
        [0.13, 0.03, -0.88], [0, 0.02, 0.24], [0, 0, 0.49], [0, -0.08, 0.58], [0, -0.01, 0.69],
        [0.16, 0, 0.43], [0.36, 0, 0.23], [0.51, -0.1, 0.08], [-0.16, 0, 0.43], [-0.36, 0, 0.23],
        [-0.51, -0.1, 0.08],
    ]
)  # fmt: skip
"""A standing person around the root, z up, facing -y: (17,3)."""


SPLITS = dict.fromkeys(TRAIN_SUBJECTS, "train") | dict.fromkeys(TEST_SUBJECTS, "test")


def write_fake_shards(
    path: Path,
    *,
    crop_size_px: int = 32,
    subjects: tuple[int, ...] = (1, 5, 6, 7, 8, 9, 11),
    actions: tuple[int, ...] = (2, 14),
    frames: int = 2,
    cameras: int = 4,
    seed: int = 0,
) -> Path:
    """Shards in ``path``: each subject in its own colour, seen at each instant by every camera.

    Cameras stand in a circle of 4.5 m and look at the person; limbs drawn in the image are the
    projections of ``joints_mm``, and masks are the same limbs.
    """
    rng = np.random.default_rng(seed)
    angles = np.deg2rad(45 + 360 * np.arange(cameras) / cameras)
    centres = np.stack([4500 * np.cos(angles), 4500 * np.sin(angles), np.full(cameras, 1500.0)], -1)
    rows: list[dict] = []
    keys = sorted((s, a, f + 1) for s in subjects for a in actions for f in range(frames))
    instants = {key: i for i, key in enumerate(keys)}
    people = {}
    for key in keys:
        yaw = rng.uniform(-np.pi, np.pi)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        shape = STANDING_MM + rng.normal(0, 40, (17, 3)) * (np.arange(17) > 0)[:, None]
        root = np.array([*rng.uniform(-500, 500, 2), 930.0])
        people[key] = shape @ turn.T + root
    for s, a, camera in sorted((s, a, c) for s in subjects for a in actions for c in range(cameras)):
        forward = np.array([0, 0, 1000.0]) - centres[camera]
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        for f in range(1, frames + 1):
            joints = people[s, a, f]
            root_cam = R @ (joints[0] - centres[camera])
            virtual = VirtualCamera(look_at(root_cam), float(np.linalg.norm(root_cam)), crop_size_px)
            R_crop = virtual.R_cam_to_crop @ R
            rows.append(
                {
                    "key": f"s_{s:02d}_act_{a:02d}_subact_01_ca_{camera + 1:02d}_{f:06d}",
                    "subject": s, "action": a, "subaction": 1, "camera": camera + 1, "frame": f,
                    "instant": instants[s, a, f], "split": split_of(s, SPLITS),
                    "R_world_to_crop": R_crop, "centre_world_mm": centres[camera], "root_world_mm": joints[0],
                    "depth_mm": virtual.depth_mm, "focal_px": virtual.focal_px,
                    "joints_mm": (joints - joints[0]) @ R_crop.T,
                }
            )  # fmt: skip
    columns = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    arrays = create_arrays(path, n=len(rows), crop_size_px=crop_size_px)
    for i, row in enumerate(rows):
        points = row["joints_mm"] + [0, 0, row["depth_mm"]]
        pixels = project_crop(points, focal_px=row["focal_px"], crop_size_px=crop_size_px)
        mask = _draw_limbs(pixels, crop_size_px)
        alpha = mask[..., None] / 255
        room = np.random.default_rng([seed, row["camera"]]).integers(60, 200, 3)
        wall = np.linspace(-30, 30, crop_size_px)[:, None, None]
        background = np.broadcast_to(room + wall, (crop_size_px, crop_size_px, 3))
        colour = np.random.default_rng([seed, 100 + row["subject"]]).integers(0, 256, 3)
        arrays["backgrounds"][i] = background
        arrays["images"][i] = np.rint(alpha * colour + (1 - alpha) * background)
        arrays["masks"][i] = mask
        arrays["masks_diff"][i] = cv2.erode(mask, np.ones((2, 2), np.uint8))
    write_table(path, columns)
    return path


def _draw_limbs(pixels: np.ndarray, size: int) -> np.ndarray:
    """Mask (S,S) of thick lines between the joints, antialiased by drawing it eight times as large."""
    big = np.zeros((size * 8, size * 8), np.uint8)
    corners = np.rint((pixels + 0.5) * 8 - 0.5).astype(int)
    for joint, parent in enumerate(H36M_PARENTS):
        if parent >= 0:
            cv2.line(big, corners[parent].tolist(), corners[joint].tolist(), 255, max(1, size * 8 // 16))
    return cv2.resize(big, (size, size), interpolation=cv2.INTER_AREA)
