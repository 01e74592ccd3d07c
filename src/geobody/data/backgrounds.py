"""Backgrounds: per subject and camera, the pixelwise median of frames spread over all its sequences.

A person who moves covers a pixel in fewer than half of the frames; the median is then the room.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.conventions import EVALUATION_SUBJECTS
from geobody.data.h36m import read_image
from geobody.data.index import Index
from geobody.errors import DataError
from geobody.parallel import in_parallel
from geobody.report.contact_sheet import contact_sheet

_BLOCK_BYTES = 4 * 2**20
_THUMBNAIL_PX = (128, 128)


def background_name(subject: int, camera: int) -> str:
    """File name of a background."""
    return f"s_{subject:02d}_ca_{camera:02d}.png"


def spread(n: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` of the numbers 0 to n - 1, evenly spread, both ends included."""
    return np.unique(np.rint(np.linspace(0, n - 1, min(n, count))).astype(np.int64))


def pixelwise_median(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Median (H,W,3) of frames (F,H,W,3), in blocks of rows: beside ``frames`` it needs a few MB.

    Of an even number of frames, the mean of the middle two, rounded down.
    """
    count, height = frames.shape[:2]
    rows = max(1, _BLOCK_BYTES // max(1, frames[:, 0].nbytes))
    median = np.empty(frames.shape[1:], np.uint8)
    low, high = (count - 1) // 2, count // 2
    for first in range(0, height, rows):
        block = np.partition(frames[:, first : first + rows], (low, high), axis=0)
        median[first : first + rows] = (block[low].astype(np.uint16) + block[high]) // 2
    return median


def write_backgrounds(index: Index, *, root: Path, output: Path, frames: int, jobs: int = -1) -> list[Path]:
    """Writes ``s_01_ca_01.png``, ... into the folder ``output``; returns their paths, sorted.

    A worker holds the ``frames`` images of one median, never more, however long the data set is.
    Raises DataError for an image that is missing, cut short or of another size than its sequence says.
    """
    output.mkdir(parents=True, exist_ok=True)
    subjects, cameras, images = (index.column(name) for name in ("subject", "camera", "image"))
    sequence_ids = index.column("sequence_id")
    tasks = []
    for subject, camera in np.unique(np.stack([subjects, cameras], -1), axis=0).tolist():
        rows = np.flatnonzero((subjects == subject) & (cameras == camera))
        rows = rows[spread(len(rows), frames)]
        calibrations = [index.cameras[i] for i in sequence_ids[rows]]
        size = calibrations[0].width_px, calibrations[0].height_px
        for calibration, image in zip(calibrations, images[rows], strict=True):
            if (calibration.width_px, calibration.height_px) != size:
                problem = f"differs in size from subject {subject}'s other images of camera {camera}"
                raise DataError(root / image, problem, "exclude its folder in params.yaml: dataset.exclude")
        paths = [root / image for image in images[rows]]
        tasks.append((paths, output / background_name(subject, camera), *size))
    return list(in_parallel(_write_background, tasks, total=len(tasks), desc="backgrounds", jobs=jobs))


def read_background(
    folder: Path, *, subject: int, camera: int, width_px: int, height_px: int
) -> NDArray[np.uint8]:
    """Background (H,W,3) RGB of a subject and camera. Raises DataError if it is missing or broken."""
    path = folder / background_name(subject, camera)
    if not path.is_file():
        raise DataError(path, "is missing", "make it with `dvc repro backgrounds`")
    return read_image(path, width_px=width_px, height_px=height_px)


def background_figure(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Contact sheet (H,W,3) RGB of backgrounds: a column per subject, a row per camera.

    Bodies for evaluation alone stand in the same rooms, so they are left out.
    """
    places = {path: [int(part) for part in path.stem.split("_")[1::2]] for path in paths}
    shown = {path: place for path, place in places.items() if place[0] not in EVALUATION_SUBJECTS}
    pictures = {}
    for path in shown:
        background = read_image(path)
        pictures[path.name] = np.asarray(
            cv2.resize(background, _THUMBNAIL_PX, interpolation=cv2.INTER_AREA), np.uint8
        )
    subjects, cameras = (sorted({place[part] for place in shown.values()}) for part in (0, 1))
    blank = np.full((*_THUMBNAIL_PX, 3), 255, np.uint8)
    grid = [[pictures.get(background_name(s, c), blank) for s in subjects] for c in cameras]
    return contact_sheet(
        grid, column_labels=[f"S{s}" for s in subjects], row_labels=[f"camera {c}" for c in cameras]
    )


def _write_background(task: tuple[list[Path], Path, int, int]) -> Path:
    paths, output, width_px, height_px = task
    frames = np.empty((len(paths), height_px, width_px, 3), np.uint8)
    for frame, path in zip(frames, paths, strict=True):
        frame[:] = read_image(path, width_px=width_px, height_px=height_px)
    _, data = cv2.imencode(".png", cv2.cvtColor(pixelwise_median(frames), cv2.COLOR_RGB2BGR))
    output.write_bytes(data.tobytes())
    return output
