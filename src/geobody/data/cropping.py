"""Cuts a crop out of each image: warps image, background and mask to the crop's virtual camera.

The camera only turns, so the warp is a homography (with lens distortion a table of pixels), the same
for near and far. A crop is drawn larger and averaged down, since it has fewer pixels than it shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.conventions import CROP_SIDE_MM, H36M_ROOT
from geobody.data.backgrounds import read_background
from geobody.data.crops import create_arrays, write_table
from geobody.data.difference import difference_mask
from geobody.data.h36m import read_image, read_mask
from geobody.data.index import Index, chunks
from geobody.errors import DataError, ParamsError
from geobody.geometry.cameras import (
    Camera,
    VirtualCamera,
    crop_to_image_homography,
    crop_to_image_map,
    look_at,
)
from geobody.metrics import mask_iou
from geobody.parallel import in_parallel

MAX_OVERSAMPLING = 16

_IMAGE_PIXELS_PER_SAMPLE = 1.5
_IMAGES_PER_TASK = 128
_COPIED = ("key", "subject", "action", "subaction", "camera", "frame", "instant", "split")


@dataclass(frozen=True)
class CropSettings:
    """How crops are cut: params.yaml's section ``crops``, less the names."""

    size_px: int
    centre: Literal["root", "mask"]
    mask_box_mm: float
    roll_std_deg: float
    seed: int
    difference_threshold: float
    difference_noise_factor: float


@dataclass(frozen=True)
class _Task:
    """Consecutive images of one sequence."""

    camera: Camera
    subject: int
    camera_number: int
    images: list[Path]
    masks: list[Path] | None
    backgrounds: Path
    joints_world_mm: NDArray[np.float64]
    roll_rad: NDArray[np.float64]
    settings: CropSettings


def write_crops(
    index: Index,
    *,
    root: Path,
    backgrounds: Path,
    output: Path,
    settings: CropSettings,
    jobs: int = -1,
) -> dict[str, float | int | dict[str, float]]:
    """Writes the shards of every image of the index into the folder ``output``; returns figures on them.

    Each image is read once, by one of ``jobs`` workers; the bytes are the same for any number of them.
    Where the index has no masks the difference masks stand in their place. Raises DataError for a file that is
    missing, broken or of the wrong size.
    """
    has_masks = index.has_masks
    if settings.centre == "mask" and not has_masks:
        raise ParamsError(
            "params.yaml: crops.centre: mask needs masks/ under dataset.root; add it, or take root"
        )
    arrays = create_arrays(output, n=len(index), crop_size_px=settings.size_px)
    parts = [arrays[name] for name in ("images", "backgrounds", "masks", "masks_diff")]
    columns = {name: index.column(name) for name in _COPIED}
    joints = index.column("joints_world_mm")
    image_paths, mask_paths = index.column("image"), index.column("mask")
    sequence_ids = index.column("sequence_id")
    spans = list(chunks(index, rows_per_chunk=_IMAGES_PER_TASK))

    def tasks():  # type: ignore[no-untyped-def]
        for rows in spans:
            first = rows[0]
            yield _Task(
                camera=index.cameras[sequence_ids[first]],
                subject=int(columns["subject"][first]),
                camera_number=int(columns["camera"][first]),
                images=[root / path for path in image_paths[rows]],
                masks=[root / path for path in mask_paths[rows]] if has_masks else None,
                backgrounds=backgrounds,
                joints_world_mm=joints[rows],
                roll_rad=_rolls(columns, rows, settings),
                settings=settings,
            )

    geometry: dict[str, list[NDArray]] = {}
    work = in_parallel(_crop, tasks(), total=len(spans), desc="crops", jobs=jobs)
    for rows, (pixels, numbers) in zip(spans, work, strict=True):
        for array, part in zip(parts, pixels, strict=True):
            array[rows[0] : rows[-1] + 1] = part
        for name, values in numbers.items():
            geometry.setdefault(name, []).append(values)
    for array in parts:
        array.flush()  # type: ignore[attr-defined]
    joined = {name: np.concatenate(values) for name, values in geometry.items()}
    write_table(output, {**columns, **joined})
    return _figures(joined, settings, has_masks=has_masks)


def virtual_camera(
    camera: Camera,
    *,
    root_cam_mm: NDArray[np.float64],
    mask: NDArray[np.uint8] | None,
    roll_rad: float,
    settings: CropSettings,
) -> VirtualCamera:
    """The crop's camera. ``mask`` (H,W) is needed for ``centre: mask`` and must not be empty.

    With ``centre: mask`` nothing is taken from the labels: the axis goes through the middle of the
    mask's box, and the depth is the one at which the box's longer side measures ``mask_box_mm``.
    """
    if settings.centre == "root" or mask is None:
        return VirtualCamera(
            look_at(root_cam_mm, roll_rad=roll_rad), float(np.linalg.norm(root_cam_mm)), settings.size_px
        )
    x, y, width, height = cv2.boundingRect(mask)
    ends = camera.rays([[x, y + (height - 1) / 2], [x + width - 1, y + (height - 1) / 2],
                        [x + (width - 1) / 2, y], [x + (width - 1) / 2, y + height - 1]])  # fmt: skip
    ends /= np.linalg.norm(ends, axis=-1, keepdims=True)
    across, down = np.linalg.norm(ends[0] - ends[1]), np.linalg.norm(ends[2] - ends[3])
    depth = settings.mask_box_mm / max(float(across), float(down), 1e-6)
    middle = camera.rays([x + (width - 1) / 2, y + (height - 1) / 2])
    return VirtualCamera(look_at(middle, roll_rad=roll_rad), depth, settings.size_px)


def oversampling(camera: Camera, virtual: VirtualCamera) -> int:
    """How many samples a side a crop's pixel takes, so that they are at most 1.5 image pixels apart."""
    image_pixels = float(camera.focal_px.max()) / virtual.focal_px
    return int(np.clip(np.ceil(image_pixels / _IMAGE_PIXELS_PER_SAMPLE), 1, MAX_OVERSAMPLING))


class Warp:
    """Draws what the image of ``camera`` shows of a crop, ``samples`` times as large."""

    def __init__(self, camera: Camera, virtual: VirtualCamera, *, samples: int) -> None:
        self._side = virtual.crop_size_px * samples
        self._camera = camera
        edge = np.array([-0.5, self._side - 0.5])
        corners = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2)
        if camera.distortion is None:
            self._homography = crop_to_image_homography(camera, virtual, oversampling=samples)
            projected = np.c_[corners, np.ones(4)] @ self._homography.T
            reached = projected[:, :2] / projected[:, 2:]
        else:
            seen = crop_to_image_map(camera, virtual, oversampling=samples)
            reached = seen[[0, 0, -1, -1], [0, -1, 0, -1]]
            self._map_x, self._map_y = (seen[..., axis].astype(np.float32) for axis in (0, 1))
        last = np.array([camera.width_px, camera.height_px]) - 0.5
        self.inside = bool(((reached >= -0.5) & (reached <= last)).all())
        """Whether the image covers the whole crop."""

    def __call__(
        self, picture: NDArray[np.uint8], *, outside: Literal["replicate", "zero"]
    ) -> NDArray[np.uint8]:
        """``picture`` (H,W) or (H,W,3) as the virtual camera sees it."""
        border = cv2.BORDER_REPLICATE if outside == "replicate" else cv2.BORDER_CONSTANT
        if self._camera.distortion is not None:
            warped = cv2.remap(
                picture, self._map_x, self._map_y, cv2.INTER_LINEAR, borderMode=border, borderValue=0
            )
        else:
            warped = cv2.warpPerspective(
                picture,
                self._homography,
                (self._side, self._side),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=border,
                borderValue=0,
            )
        return np.asarray(warped, np.uint8)

    def valid(self) -> NDArray[np.bool_] | None:
        """Where the image covers the crop (S,S); None where it covers all of it."""
        if self.inside:
            return None
        ones = np.full((self._camera.height_px, self._camera.width_px), 255, np.uint8)
        return self(ones, outside="zero") > 127


def _crop(task: _Task) -> tuple[list[NDArray[np.uint8]], dict[str, NDArray]]:
    """Pixels (images, backgrounds, masks, difference masks) and numbers of a task's images."""
    settings, camera = task.settings, task.camera
    size_px = {"width_px": camera.width_px, "height_px": camera.height_px}
    background = read_background(task.backgrounds, subject=task.subject, camera=task.camera_number, **size_px)
    n, side = len(task.images), settings.size_px
    pixels = [np.empty((n, side, side, *c), np.uint8) for c in ((3,), (3,), (), ())]
    rows: list[dict[str, NDArray | float]] = []
    joints_cam = camera.to_camera(task.joints_world_mm)
    for i, path in enumerate(task.images):
        image = read_image(path, **size_px)
        mask = None if task.masks is None else read_mask(task.masks[i], **size_px)
        if settings.centre == "mask" and task.masks is not None and not np.any(mask):
            cure = "exclude its folder in params.yaml: dataset.exclude, or set crops.centre to root"
            raise DataError(task.masks[i], "shows nobody, so that the crop has no centre", cure)
        virtual = virtual_camera(
            camera,
            root_cam_mm=joints_cam[i, H36M_ROOT],
            mask=mask,
            roll_rad=float(task.roll_rad[i]),
            settings=settings,
        )
        samples = oversampling(camera, virtual)
        warp = Warp(camera, virtual, samples=samples)
        image_big, background_big = (warp(p, outside="replicate") for p in (image, background))
        difference = difference_mask(
            image_big,
            background_big,
            valid=warp.valid(),
            threshold=settings.difference_threshold,
            noise_factor=settings.difference_noise_factor,
        )
        mask_big = difference if mask is None else warp(mask, outside="zero")
        for array, big in zip(pixels, (image_big, background_big, mask_big, difference), strict=True):
            array[i] = big if samples == 1 else cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA)
        R = virtual.R_cam_to_crop @ camera.R_world_to_cam
        root = task.joints_world_mm[i, H36M_ROOT]
        rows.append(
            {
                "R_world_to_crop": R,
                "centre_world_mm": camera.centre_world_mm,
                "root_world_mm": root,
                "depth_mm": virtual.depth_mm,
                "focal_px": virtual.focal_px,
                "joints_mm": (task.joints_world_mm[i] - root) @ R.T,
                "leaves_image": not warp.inside,
                "difference_iou": float(mask_iou(pixels[2][i] > 127, pixels[3][i] > 127)),
                "cut": bool(_border(pixels[2][i]).max() > 127),
                "depth_error": abs(virtual.depth_mm / float(np.linalg.norm(joints_cam[i, H36M_ROOT])) - 1),
            }
        )
    return pixels, {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def _rolls(
    columns: Mapping[str, NDArray], rows: NDArray[np.int64], settings: CropSettings
) -> NDArray[np.float64]:
    """Roll of each image, drawn from its own key: what else is in the index does not change it."""
    if settings.roll_std_deg == 0:
        return np.zeros(len(rows))
    names = ("subject", "action", "subaction", "camera", "frame")
    keys = np.stack([columns[name][rows] for name in names], -1).astype(np.int64)
    draws = [np.random.default_rng([settings.seed, *key]).standard_normal() for key in keys.tolist()]
    return np.deg2rad(settings.roll_std_deg) * np.asarray(draws)


def _border(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _figures(
    numbers: Mapping[str, NDArray], settings: CropSettings, *, has_masks: bool
) -> dict[str, float | int | dict[str, float]]:
    figures: dict[str, float | int | dict[str, float]] = {
        "images": len(numbers["depth_mm"]),
        "crop_size_px": settings.size_px,
        "crop_side_mm": CROP_SIDE_MM,
        "dataset_masks": int(has_masks),
        "person_cut_by_crop_pct": 100 * float(numbers["cut"].mean()),
        "crop_leaves_image_pct": 100 * float(numbers["leaves_image"].mean()),
        "depth_mm": {
            "mean": float(numbers["depth_mm"].mean()),
            "min": float(numbers["depth_mm"].min()),
            "max": float(numbers["depth_mm"].max()),
        },
        "depth_error_median_pct": 100 * float(np.median(numbers["depth_error"])),
    }
    if has_masks:
        iou = numbers["difference_iou"]
        figures["difference_mask_iou"] = {
            "mean": float(iou.mean()),
            "median": float(np.median(iou)),
            "p05": float(np.quantile(iou, 0.05)),
        }
    return figures
