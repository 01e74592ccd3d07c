"""Contact sheets of a synthetic set: its subjects, its actions, and the bodies for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from geobody.conventions import H36M_ACTIONS
from geobody.data.h36m import SequenceName
from geobody.errors import DataError
from geobody.report.contact_sheet import contact_sheet, write_sheet

COLUMNS: Final = 8
PICTURE_PX: Final = 112
SHARE_OF_IMAGE: Final = 0.62
MAX_BYTES: Final = 590_000
GREY_STEP: Final = 8


@dataclass(frozen=True)
class Pictures:
    """Where the images and the masks of a set are."""

    images: Path
    masks: Path

    def around(self, name: str, frame: int) -> np.ndarray:
        """A square (112,112,3) RGB of a frame (from 1) of a sequence, the person in its middle."""
        image = _read(self.images / name / f"{name}_{frame:06d}.jpg", cv2.IMREAD_COLOR)
        mask = _read(self.masks / name / f"{name}_{frame:06d}.png", cv2.IMREAD_GRAYSCALE)
        return _around(image[..., ::-1], mask)


def people_sheet(
    path: Path, pictures: Pictures, *, subjects: Sequence[int], actions: Sequence[int], frames: int
) -> None:
    """Writes a PNG of at most 590 kB: a row per subject, a column per action (evenly chosen).

    Cameras and frames alternate from picture to picture. Each shows a square around the person.
    """
    chosen = [actions[i * len(actions) // COLUMNS] for i in range(min(COLUMNS, len(actions)))]
    grid = [
        [
            pictures.around(
                SequenceName(subject, action, 1, (row + column) % 4 + 1).folder,
                (5 * row + 3 * column) % frames + 1,
            )
            for column, action in enumerate(chosen)
        ]
        for row, subject in enumerate(subjects)
    ]
    _write(path, grid, [H36M_ACTIONS[a] for a in chosen], [f"S{s}" for s in subjects])


def actions_sheet(
    path: Path, pictures: Pictures, *, subjects: Sequence[int], actions: Sequence[int], frames: int
) -> None:
    """As ``people_sheet``: a row per action, a column for every third subject."""
    chosen = subjects[::3]
    grid = [
        [
            pictures.around(
                SequenceName(subject, action, 1, (row + column) % 4 + 1).folder,
                (7 * column + 3 * row + frames // 2) % frames + 1,
            )
            for column, subject in enumerate(chosen)
        ]
        for row, action in enumerate(actions)
    ]
    _write(path, grid, [f"S{s}" for s in chosen], [H36M_ACTIONS[a] for a in actions])


def bodies_sheet(path: Path, pictures: Pictures, *, shown: Sequence[tuple[int, int, int]]) -> None:
    """As ``people_sheet``: one picture of each subject among ``shown`` (subject, action, subaction)."""
    of_each: dict[int, list[tuple[int, int, int]]] = {}
    for key in shown:
        of_each.setdefault(key[0], []).append(key)
    squares = []
    for number, own in enumerate(of_each.values()):
        name = SequenceName(*own[number % len(own)], number % 4 + 1).folder
        squares.append(pictures.around(name, 1))
    grid = [squares[start : start + COLUMNS] for start in range(0, len(squares), COLUMNS)]
    blank = np.full((PICTURE_PX, PICTURE_PX, 3), 255, np.uint8)
    _write(path, grid or [[blank]], [], [f"S{list(of_each)[COLUMNS * i]}" for i in range(len(grid))])


def _write(
    path: Path, grid: list[list[np.ndarray]], column_labels: Sequence[str], row_labels: Sequence[str]
) -> None:
    sheet = contact_sheet(grid, column_labels=column_labels, row_labels=row_labels)
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
