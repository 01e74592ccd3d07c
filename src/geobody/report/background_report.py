"""How much of a picture stands before its background: a background with people in it would show here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from geobody.data.backgrounds import background_name, spread
from geobody.data.h36m import read_image
from geobody.data.index import Index

CHECKED_IMAGES: Final = 4
DIFFERS_BEYOND: Final = 25
"""Levels of 255, in any channel: well above noise and soft shadows."""


def background_report(index: Index, paths: Sequence[Path], *, root: Path) -> dict[str, Any]:
    """Counts, and by camera the share of pixels, in %, in which images differ from their background.

    Judged on a few images of each subject and camera, evenly spread over all sequences. ``paths`` are
    the backgrounds, ``root`` the folder of the images.
    """
    backgrounds = {path.name: read_image(path) for path in paths}
    subjects, cameras, images = (index.column(name) for name in ("subject", "camera", "image"))
    shares: dict[int, list[float]] = {}
    for subject, camera in np.unique(np.stack([subjects, cameras], -1), axis=0).tolist():
        rows = np.flatnonzero((subjects == subject) & (cameras == camera))
        background = backgrounds[background_name(subject, camera)].astype(np.int16)
        for image in images[rows[spread(len(rows), CHECKED_IMAGES)]]:
            difference = np.abs(read_image(root / image) - background).max(axis=-1)
            shares.setdefault(camera, []).append(100 * float((difference > DIFFERS_BEYOND).mean()))
    return {
        "backgrounds": len(backgrounds),
        "images_checked": sum(map(len, shares.values())),
        "differs_pct": {f"camera_{camera}": float(np.mean(values)) for camera, values in shares.items()},
    }
