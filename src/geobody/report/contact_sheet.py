"""Contact sheets: labelled grids of small pictures in one PNG that stays small enough to commit."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 300_000

_MARGIN_PX = 2
_LABEL_PX = 14
_SHRINK = 0.9


def contact_sheet(
    pictures: Sequence[Sequence[NDArray[np.uint8]]],
    *,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Grid (H,W,3) RGB of rows of pictures (h,w,3), all of one size, with labels above and on the left."""
    height, width = pictures[0][0].shape[:2]
    top = _LABEL_PX if column_labels else 0
    left = 8 + 7 * max(map(len, row_labels)) if row_labels else 0
    cell_h, cell_w = height + _MARGIN_PX, width + _MARGIN_PX
    columns = max(map(len, pictures))
    sheet = np.full((top + cell_h * len(pictures), left + cell_w * columns, 3), 255, np.uint8)
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            y, x = top + r * cell_h, left + c * cell_w
            sheet[y : y + height, x : x + width] = picture
    for c, text in enumerate(column_labels):
        _write(sheet, text, left + c * cell_w + 2, _LABEL_PX - 4)
    for r, text in enumerate(row_labels):
        _write(sheet, text, 2, top + r * cell_h + height // 2 + 4)
    return sheet


def write_sheet(path: Path, sheet: NDArray[np.uint8], *, max_bytes: int = MAX_BYTES) -> None:
    """Writes a picture (H,W,3) RGB as PNG, shrunk until the file has at most ``max_bytes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture, scale = sheet, 1.0
    while True:
        _, data = cv2.imencode(
            ".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9]
        )
        if data.size <= max_bytes:
            path.write_bytes(data.tobytes())
            return
        scale *= _SHRINK
        size = (max(1, round(sheet.shape[1] * scale)), max(1, round(sheet.shape[0] * scale)))
        picture = np.asarray(cv2.resize(sheet, size, interpolation=cv2.INTER_AREA), np.uint8)


def _write(sheet: NDArray[np.uint8], text: str, x: int, y: int) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
