"""Contact sheet of a synthetic set: every subject in several actions, seen by all cameras."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from geobody.conventions import H36M_ACTIONS
from geobody.data.synthetic import sequence_name
from geobody.errors import DataError
from geobody.report.contact_sheet import contact_sheet, write_sheet

COLUMNS: Final = 8
PICTURE_PX: Final = 112
SHARE_OF_IMAGE: Final = 0.56
MAX_BYTES: Final = 400_000
GREY_STEP: Final = 8


def people_sheet(
    path: Path, *, images: Path, masks: Path, subjects: Sequence[int], actions: Sequence[int], frames: int
) -> None:
    """Writes a PNG of at most 400 kB: a row per subject, a column per action (evenly chosen).

    Cameras and frames alternate from picture to picture. Each shows a square around the person.
    """
    chosen = [actions[i * len(actions) // COLUMNS] for i in range(min(COLUMNS, len(actions)))]
    grid = []
    for row, subject in enumerate(subjects):
        pictures = []
        for column, action in enumerate(chosen):
            name = sequence_name(subject, action, 1, (row + column) % 4 + 1)
            file = f"{name}/{name}_{(5 * row + 3 * column) % frames + 1:06d}"
            image = _read(images / f"{file}.jpg", cv2.IMREAD_COLOR)
            mask = _read(masks / f"{file}.png", cv2.IMREAD_GRAYSCALE)
            pictures.append(_around(image[..., ::-1], mask))
        grid.append(pictures)
    sheet = contact_sheet(
        grid, column_labels=[H36M_ACTIONS[a] for a in chosen], row_labels=[f"S{s}" for s in subjects]
    )
    # Fewer grey levels: sensor noise would else be most of the file.
    coarse = np.minimum(sheet.astype(np.int32) // GREY_STEP * GREY_STEP + GREY_STEP // 2, 255)
    coarse[sheet == 255] = 255
    write_sheet(path, coarse.astype(np.uint8), max_bytes=MAX_BYTES)


def _read(path: Path, flags: int) -> np.ndarray:
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise DataError(path, "cannot be read as an image", "make it again with: dvc repro synth")
    return np.asarray(picture)


def _around(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A square (112,112,3) of the picture with the person in its middle."""
    height, width = mask.shape
    side = round(SHARE_OF_IMAGE * height)
    y, x = np.nonzero(mask)
    middle = (x.min() + x.max(), y.min() + y.max()) if len(x) else (width, height)
    left = int(np.clip(middle[0] // 2 - side // 2, 0, width - side))
    top = int(np.clip(middle[1] // 2 - side // 2, 0, height - side))
    smooth = cv2.bilateralFilter(np.ascontiguousarray(image), 5, 18, 2)
    piece = smooth[top : top + side, left : left + side]
    way = cv2.INTER_AREA if side > PICTURE_PX else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(piece, (PICTURE_PX, PICTURE_PX), interpolation=way))
