"""A contact sheet of crops: what training sees, and whether joints and masks lie on the person."""

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.conventions import H36M_PARENTS
from geobody.data.crops import CropShards
from geobody.geometry.cameras import project_crop
from geobody.report.contact_sheet import contact_sheet

_RIGHT, _LEFT, _MIDDLE = (255, 80, 80), (80, 160, 255), (255, 255, 80)


def crop_figure(shards: CropShards, *, columns: int = 7) -> NDArray[np.uint8]:
    """Sheet (H,W,3) RGB: two blocks of rows image, skeleton, background, mask, difference mask.

    Each column shows another subject and camera, evenly spread over the shards.
    """
    rows = np.unique(np.rint(np.linspace(0, len(shards) - 1, 2 * columns + 2)[1:-1]).astype(int))
    cameras = np.unique(shards.table["camera"])
    spread = []
    for i, row in enumerate(rows):
        same = shards.table["instant"] == shards.table["instant"][row]
        wanted = np.flatnonzero(same & (shards.table["camera"] == cameras[i % len(cameras)]))
        spread.append(int(wanted[0]) if len(wanted) else int(row))
    names = ["image", "joints", "background", "mask", "difference"]
    grid, labels = [], []
    for block in (spread[:columns], spread[columns:]):
        if block:
            grid += [list(row) for row in zip(*(_column(shards, row) for row in block), strict=True)]
            labels += names
    return contact_sheet(grid, row_labels=labels)


def draw_skeleton(picture: NDArray[np.uint8], pixels: NDArray[np.float64]) -> None:
    """Draws the 17 joints (17,2) and their bones into ``picture``: right red, left blue."""
    shift = 4
    points = np.rint(pixels * 2**shift).astype(int)
    for joint, parent in enumerate(H36M_PARENTS):
        colour = (
            _RIGHT if joint in (1, 2, 3, 14, 15, 16) else _LEFT if joint in (4, 5, 6, 11, 12, 13) else _MIDDLE
        )
        if parent >= 0:
            cv2.line(picture, points[parent].tolist(), points[joint].tolist(), colour, 1, cv2.LINE_AA, shift)


def _column(shards: CropShards, row: int) -> list[NDArray[np.uint8]]:
    size = shards.crop_size_px
    joints = shards.table["joints_mm"][row] + shards.root_crop_mm(np.asarray(row))
    pixels = project_crop(joints, focal_px=shards.table["focal_px"][row], crop_size_px=size)
    pictures = [shards.images[row], shards.images[row], shards.backgrounds[row]]
    pictures += [np.repeat(m[row][..., None], 3, -1) for m in (shards.masks, shards.masks_diff)]
    side = size * max(1, 128 // size)
    column = [
        np.asarray(cv2.resize(p, (side, side), interpolation=cv2.INTER_NEAREST), np.uint8) for p in pictures
    ]
    draw_skeleton(column[1], (pixels + 0.5) * side / size - 0.5)
    return column
