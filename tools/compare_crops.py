"""What it costs to know the person by a box or a mask alone: joint errors by the way that crops are made.

``python -m tools.compare_crops`` after ``make repro``: crops around the labelled root, as the pipeline's own, beside
those of ``geobody predict``, on images that the index calls ``evaluation`` (people whom no training saw) or another
split. Errors are over 17 joints, in the frame of the image's camera.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geobody.predict import Box

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


def main() -> None:
    from geobody.errors import GeobodyError

    try:
        compare()
    except GeobodyError as error:
        raise SystemExit(f"error: {error}") from None


def compare() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_crops", description="Compares ways to crop."
    )
    parser.add_argument("--repository", type=Path, default=ROOT, help="where dvc repro has run")
    parser.add_argument("--split", default="evaluation", choices=("train", "test", "evaluation"))
    parser.add_argument("--images", type=int, default=400, help="how many, evenly spread (default: 400)")
    given = parser.parse_args()

    import numpy as np

    from geobody.config import load_params
    from geobody.conventions import H36M_ROOT
    from geobody.data.h36m import read_image, read_mask
    from geobody.data.index import Index
    from geobody.data.user_crops import cut_out
    from geobody.errors import DataError
    from geobody.geometry.cameras import VirtualCamera, look_at
    from geobody.metrics import joint_errors
    from geobody.paths import INDEX
    from geobody.predict import Predictor

    repository = given.repository.resolve()
    data = repository / load_params(repository / "params.yaml").dataset.root
    index, predictor = Index.open(repository / INDEX), Predictor.open(repository)
    rows = np.flatnonzero(index.column("split") == given.split)
    if not index.has_masks or not len(rows):
        raise DataError(
            data, f"has no masks, or no images of the split {given.split}", "compare on another set"
        )
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, given.images).round().astype(int))]
    image_paths, mask_paths, joints = (index.column(name) for name in ("image", "mask", "joints_world_mm"))
    images, masks, true, known = [], [], [], []
    for row, sequence in zip(rows, index.column("sequence_id")[rows], strict=True):
        camera = index.cameras[sequence]
        size = {"width_px": camera.width_px, "height_px": camera.height_px}
        mask = read_mask(data / mask_paths[row], **size)
        if not mask.any():
            continue
        image, points = read_image(data / image_paths[row], **size), camera.to_camera(joints[row])
        distance = float(np.linalg.norm(points[H36M_ROOT]))
        virtual = VirtualCamera(look_at(points[H36M_ROOT]), distance, predictor.network.crop_size_px)
        known.append(cut_out(image, mask, camera=camera, virtual=virtual))
        images.append(image)
        masks.append(mask)
        true.append(points - points[H36M_ROOT])
    boxes = [box_of(mask) for mask in masks]
    ways = {
        "around the labelled root": predictor.predict_crops(known),
        "by a box around the mask": predictor(images, boxes=boxes, masks=masks),
        "by the mask": predictor(images, masks=masks),
    }
    print(f"{len(images)} images of the split {given.split}; mm: MPJPE / P-MPJPE of the head; of the body")
    for name, found in ways.items():
        errors = [
            f"{joint_errors(joints_mm, np.array(true), alignment=alignment).mean():.0f}"
            for joints_mm in (found.joints_mm, found.body_joints_mm)
            for alignment in ("none", "similarity")
        ]
        print(f"  {name:26} {errors[0]:>4} / {errors[1]:>4}; {errors[2]:>4} / {errors[3]:>4}")


def box_of(mask: "NDArray") -> "Box":
    """x, y, width, height of what a mask (H,W) covers."""
    import numpy as np

    y, x = np.nonzero(mask)
    return float(x.min()), float(y.min()), float(np.ptp(x) + 1), float(np.ptp(y) + 1)


if __name__ == "__main__":
    main()
