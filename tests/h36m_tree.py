"""A small tree in Human3.6M's layout that did not come from `synth`: stick people in a checkered room.

Everything is drawn through OpenCV's own projection, so that it shares no geometry with the package.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io

from crop_fixtures import STANDING_MM
from geobody.conventions import H36M_PARENTS
from geobody.data.manifest_writing import write_manifest

FOCAL_PX = 145.0


@dataclass(frozen=True)
class Tree:
    """Where the parts of the tree are."""

    root: Path

    @property
    def images(self) -> Path:
        """Folder of the image sequences."""
        return self.root / "images"

    @property
    def masks(self) -> Path:
        """Folder of the masks."""
        return self.root / "masks"

    @property
    def manifest(self) -> Path:
        """File that lists the others."""
        return self.root / "manifest.parquet"

    def write_manifest(self) -> None:
        """Lists the files as they are now."""
        write_manifest(self.manifest)


def camera_of(number: int, *, width: int = 128, height: int = 120) -> dict[str, np.ndarray]:
    """Fields R, T, f, c, img_width and img_height of camera ``number``, about 4.5 m from the middle."""
    angle = np.deg2rad(45 + 90 * number)
    centre = np.array([4500 * np.cos(angle), 4500 * np.sin(angle), 1200 + 150 * number])
    forward = np.array([100.0, -50.0, 950.0]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return {
        "R": np.stack([right, np.cross(forward, right), forward]),
        "T": centre[None],
        "f": np.array([[FOCAL_PX, FOCAL_PX * 1.01]]),
        "c": np.array([[width / 2 - 1.3, height / 2 + 0.8]]),
        "img_width": np.array([[width]]),
        "img_height": np.array([[height]]),
    }


def opencv_project(points_world_mm: np.ndarray, camera: dict[str, np.ndarray]) -> np.ndarray:
    """Pixels (N,2) by cv2.projectPoints, with distortion if the camera has ``k`` and ``p``."""
    K = np.array(
        [[camera["f"][0, 0], 0, camera["c"][0, 0]], [0, camera["f"][0, 1], camera["c"][0, 1]], [0, 0, 1]]
    )
    k, p = np.ravel(camera.get("k", np.zeros(3))), np.ravel(camera.get("p", np.zeros(2)))
    rotation, _ = cv2.Rodrigues(camera["R"])
    t = -camera["R"] @ camera["T"].reshape(3)
    pixels, _ = cv2.projectPoints(
        np.asarray(points_world_mm, float), rotation, t, K, np.array([*k[:2], *p, k[2]])
    )
    return pixels.reshape(-1, 2)


def poses(subject: int, action: int, frames: int) -> np.ndarray:
    """World joints (F,17,3) of someone who walks about and turns, the same for all cameras."""
    rng = np.random.default_rng([subject, action])
    joints = np.empty((frames, 17, 3))
    for f in range(frames):
        yaw = rng.uniform(-np.pi, np.pi)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        joints[f] = STANDING_MM @ turn.T + [*rng.uniform(-700, 700, 2), 930]
    return joints


def room(subject: int, camera: int, *, width: int = 128, height: int = 120) -> np.ndarray:
    """Background (H,W,3) of a subject and camera: smooth, so that JPEG keeps it."""
    rng = np.random.default_rng([17, subject, camera])
    coarse = rng.integers(120, 200, (5, 5, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def write_tree(
    folder: Path,
    *,
    subjects: tuple[int, ...] = (1, 5, 6, 7, 8, 9, 11),
    actions: tuple[int, ...] = (2,),
    cameras: tuple[int, ...] = (1, 2, 3, 4),
    frames: int = 3,
    layout: str = "thesis",
    extra: dict[str, np.ndarray] | None = None,
    noise: float = 1.5,
) -> Tree:
    """Writes images, masks, ``.mat`` files and the manifest.

    ``layout`` "thesis": the .mat beside the images, masks as .png. "matlab": the .mat under annotations/,
    masks as .jpg. ``extra`` fields go into every .mat.
    """
    thesis = layout == "thesis"
    tree = Tree(folder / "h36m")
    for s in subjects:
        for a in actions:
            joints = poses(s, a, frames)
            for c in cameras:
                name = f"s_{s:02d}_act_{a:02d}_subact_01_ca_{c:02d}"
                image_folder = tree.images / name
                meta_folder = image_folder if thesis else tree.root / "annotations" / name
                for place in (image_folder, meta_folder, tree.masks / name):
                    place.mkdir(parents=True, exist_ok=True)
                camera = {**camera_of(c), **(extra or {})}
                scipy.io.savemat(meta_folder / "h36m_meta.mat", {"pose3d_world": joints, **camera})
                for f in range(frames):
                    mask = _draw(opencv_project(joints[f], camera))
                    rng = np.random.default_rng([zlib.crc32(name.encode()), f])
                    image = room(s, c).astype(float)
                    image[mask > 0] = [40, 30 + 20 * (s % 5), 60]
                    image = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
                    stem = f"{name}_{f + 1:06d}"
                    cv2.imwrite(
                        str(image_folder / f"{stem}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]
                    )
                    cv2.imwrite(str(tree.masks / name / (f"{stem}.png" if thesis else f"{stem}.jpg")), mask)
    tree.write_manifest()
    return tree


def _draw(pixels: np.ndarray) -> np.ndarray:
    mask = np.zeros((120, 128), np.uint8)
    points = np.rint(pixels).astype(int)
    for joint, parent in enumerate(H36M_PARENTS):
        if parent >= 0:
            cv2.line(mask, points[parent].tolist(), points[joint].tolist(), 255, 4)
    return mask
