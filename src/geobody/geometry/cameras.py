"""Pinhole cameras with and without lens distortion, and the virtual camera of a crop.

Camera model: x_cam = R (X - centre); normalised x = x_cam / z_cam; Brown's distortion of the
normalised point (OpenCV's formula, parameters in the order k1, k2, k3, p1, p2); x_px = f x + c.
Virtual camera: same centre, turned by R_x R_y so that its optical axis meets a chosen point, rolled
by R_z, focal length such that a square of 2 m at that point fills the crop.
Points are (..., 3) and batched by broadcasting; arithmetic is float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geobody.conventions import CROP_SIDE_MM

Array = NDArray[np.float64]

_UNDISTORT_STEPS = 50


@dataclass(frozen=True)
class Camera:
    """A calibrated camera of the data set."""

    R_world_to_cam: Array
    """(3,3)"""
    centre_world_mm: Array
    """(3,)"""
    focal_px: Array
    """(2,)"""
    principal_px: Array
    """(2,), pixel centres at integers"""
    width_px: int
    height_px: int
    distortion: Array | None = None
    """(5,): k1, k2, k3, p1, p2"""

    def to_camera(self, points_world_mm: ArrayLike) -> Array:
        """Points (...,3) in the camera frame, mm."""
        return (np.asarray(points_world_mm, np.float64) - self.centre_world_mm) @ self.R_world_to_cam.T

    def project(self, points_world_mm: ArrayLike) -> Array:
        """Pixels (...,2) of world points (...,3); meaningless for points behind the camera."""
        return self.project_camera(self.to_camera(points_world_mm))

    def project_camera(self, points_cam: ArrayLike) -> Array:
        """Pixels (...,2) of points (...,3) in the camera frame (any scale)."""
        points_cam = np.asarray(points_cam, np.float64)
        normalised = points_cam[..., :2] / points_cam[..., 2:]
        if self.distortion is not None:
            normalised = distort(normalised, self.distortion)
        return normalised * self.focal_px + self.principal_px

    def rays(self, pixels: ArrayLike) -> Array:
        """Directions (...,3) in the camera frame, z = 1, of pixels (...,2); distortion undone."""
        normalised = (np.asarray(pixels, np.float64) - self.principal_px) / self.focal_px
        if self.distortion is not None:
            normalised = undistort(normalised, self.distortion)
        return np.concatenate([normalised, np.ones_like(normalised[..., :1])], -1)


@dataclass(frozen=True)
class VirtualCamera:
    """The camera of a crop: at the data set's camera centre, its axis through the crop's centre."""

    R_cam_to_crop: Array
    """(3,3)"""
    depth_mm: float
    """Distance of the centred point from the camera centre."""
    crop_size_px: int

    @property
    def focal_px(self) -> float:
        """Focal length with which `CROP_SIDE_MM` at ``depth_mm`` covers ``crop_size_px`` pixels."""
        return self.crop_size_px * self.depth_mm / CROP_SIDE_MM

    def matrix(self, oversampling: int = 1) -> Array:
        """Intrinsic matrix (3,3) of the crop, or of the crop drawn ``oversampling`` times as large."""
        focal = self.focal_px * oversampling
        centre = (self.crop_size_px * oversampling - 1) / 2
        return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1.0]])


def centre_from_translation(R: ArrayLike, t: ArrayLike) -> Array:
    """Camera centre (3,) of files that state x_cam = R X + t instead of R (X - centre)."""
    return -np.asarray(R, np.float64).T @ np.asarray(t, np.float64).reshape(3)


def rotation_error(R: ArrayLike) -> float:
    """Largest deviation of R R^T from the identity, or of det R from 1, for a matrix (3,3)."""
    R = np.asarray(R, np.float64)
    return float(max(np.abs(R @ R.T - np.eye(3)).max(), abs(np.linalg.det(R) - 1)))


def look_at(point_cam: ArrayLike, *, roll_rad: float = 0.0) -> Array:
    """Rotation (3,3) after which a point (3,) of the camera frame lies on the optical axis.

    R_z(roll) R_x(atan(y'/z')) R_y(atan(-x/z)), after Rhodin et al. 2018: the horizon stays level
    as far as it can before the roll.
    """
    x, y, z = np.asarray(point_cam, np.float64)
    about_y = np.arctan2(-x, z)
    about_x = np.arctan2(y, np.hypot(x, z))
    c, s = np.cos(about_y), np.sin(about_y)
    R_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(about_x), np.sin(about_x)
    R_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    R_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return R_z @ R_x @ R_y


def project_crop(points_crop: ArrayLike, *, focal_px: ArrayLike, crop_size_px: int) -> Array:
    """Crop pixels (...,2) of points (...,3) in the crop frame, camera at the origin."""
    points_crop = np.asarray(points_crop, np.float64)
    focal = np.asarray(focal_px, np.float64)[..., None]
    return focal * points_crop[..., :2] / points_crop[..., 2:] + (crop_size_px - 1) / 2


def crop_to_image_homography(camera: Camera, virtual: VirtualCamera, *, oversampling: int = 1) -> Array:
    """Homography (3,3) from crop pixels to the pixels of an undistorted image: K R^T K_v^-1."""
    K = np.array(
        [
            [camera.focal_px[0], 0, camera.principal_px[0]],
            [0, camera.focal_px[1], camera.principal_px[1]],
            [0, 0, 1],
        ]
    )
    return K @ virtual.R_cam_to_crop.T @ np.linalg.inv(virtual.matrix(oversampling))


def crop_to_image_map(camera: Camera, virtual: VirtualCamera, *, oversampling: int = 1) -> Array:
    """Image pixel (S,S,2) that each pixel of the crop shows, distortion included."""
    size = virtual.crop_size_px * oversampling
    grid = np.stack([*np.meshgrid(np.arange(size), np.arange(size)), np.ones((size, size))], -1)
    rays_crop = grid @ np.linalg.inv(virtual.matrix(oversampling)).T
    return camera.project_camera(rays_crop @ virtual.R_cam_to_crop)


def distort(normalised: ArrayLike, distortion: ArrayLike) -> Array:
    """Distorted normalised points (...,2): Brown's model with k1, k2, k3, p1, p2."""
    normalised = np.asarray(normalised, np.float64)
    k1, k2, k3, p1, p2 = np.asarray(distortion, np.float64)
    x, y = normalised[..., 0], normalised[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )


def undistort(distorted: ArrayLike, distortion: ArrayLike) -> Array:
    """Normalised points (...,2) whose distortion gives ``distorted``, by fixed-point iteration."""
    distorted = np.asarray(distorted, np.float64)
    normalised = distorted
    for _ in range(_UNDISTORT_STEPS):
        normalised = normalised - (distort(normalised, distortion) - distorted)
    return normalised
