"""Errors of joints and bodies by what placed the crop: the labelled root, a box, a box that is off."""

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.box_crops import BoxedImage, box_off
from geobody.conventions import CROP_SIDE_MM, H36M_ROOT
from geobody.data.crop_figure import draw_skeleton
from geobody.data.user_crops import cut_around
from geobody.errors import DataError
from geobody.geometry.cameras import project_crop
from geobody.predict import BATCH, Prediction, Predictor
from geobody.report.contact_sheet import contact_sheet, write_sheet
from geobody.report.pose_report import pose_report

PLACED_BY: Final = ("root", "box", "box_off")
FIRST: Final = "_first_cut"
"""Ends the names of crops by a box that were not cut anew."""
FIGURE_IMAGES: Final = 8
PICTURE_PX: Final = 128


class BoxErrors:
    """Collects `BoxedImage`s, predicts them in batches by every way, and says the errors."""

    def __init__(self, predictor: Predictor, *, off: float, expected: int) -> None:
        """``off``: by how much of its sides a box is off; ``expected``: about how many images will come."""
        self._predictor = predictor
        self._every, self._seen = max(1, expected // FIGURE_IMAGES), 0
        self._off = off
        self._rng = np.random.default_rng(0)
        self._waiting: list[BoxedImage] = []
        self._true: list[NDArray] = []
        self._found: dict[str, list[tuple[NDArray, ...]]] = {}
        self._pictures: list[list[NDArray[np.uint8]]] = []

    def add(self, boxed: BoxedImage) -> None:
        """Takes an image in."""
        self._waiting.append(boxed)
        if len(self._waiting) == BATCH:
            self._predict()

    def metrics(self) -> dict[str, Any]:
        """By what placed the crop: "pose" and "body" (see ``pose_report``), and how far its centre is from the root.

        ``beside_px`` is the median over images across the line of sight, in pixels of the crop; ``depth_pct`` along it,
        in percent; ``root_found_pct`` the share of crops that were cut around a root. Raises DataError when no image
        came in.
        """
        self._predict()
        if not self._true:
            raise DataError(Path("data/index"), "no test image shows anybody", "mend masks or backgrounds")
        true = np.concatenate(self._true)
        root = true[:, H36M_ROOT]
        relative = true - root[:, None]
        metrics: dict[str, Any] = {"images": len(true)}
        for way, parts in self._found.items():
            joints, body, centre, cut = (np.concatenate(part) for part in zip(*parts, strict=True))
            metrics[way] = {"pose": pose_report(joints, relative), "body": pose_report(body, relative)}
            metrics[way] |= self._distances(centre, root) | {"root_found_pct": float(100 * cut.mean())}
        return metrics

    def draw(self, path: Path) -> None:
        """Writes some of the images: cropped by the root, by a box that is off, and that crop cut anew, with joints."""
        self._predict()
        rows = [[row[i] for row in self._pictures[:FIGURE_IMAGES]] for i in range(3)]
        write_sheet(path, contact_sheet(rows, row_labels=["by the root", "box off", "cut anew"]))

    def _predict(self) -> None:
        if not self._waiting:
            return
        images, self._waiting = self._waiting, []
        predictor = self._predictor
        self._true.append(np.array([boxed.joints_mm for boxed in images]))
        requests = [boxed.request(boxed.box) for boxed in images]
        off = [boxed.request(box_off(boxed.box, self._off, self._rng)) for boxed in images]
        crops = {"box" + FIRST: predictor.crops_of(requests), "box_off" + FIRST: predictor.crops_of(off)}
        crops["box"] = predictor.recentred(requests, crops["box" + FIRST])
        crops["box_off"] = predictor.recentred(off, crops["box_off" + FIRST])
        crops["root"] = [
            cut_around(request, boxed.root_mm, crop)
            for request, boxed, crop in zip(requests, images, crops["box"], strict=True)
        ]
        found = {way: predictor.predict_crops(some) for way, some in crops.items()}
        for way, prediction in found.items():
            self._found.setdefault(way, []).append(
                (
                    prediction.joints_mm,
                    prediction.body_joints_mm,
                    prediction.root_mm,
                    np.array([crop.root_found for crop in prediction.crops]),
                )
            )
        shown = ("root", "box_off" + FIRST, "box_off")
        for i in range(-self._seen % self._every, len(images), self._every):
            self._pictures.append([_picture(found[way], i) for way in shown])
        self._seen += len(images)

    def _distances(self, centre: NDArray, root: NDArray) -> dict[str, float]:
        distance = np.linalg.norm(root, axis=1)
        along = (centre * root).sum(1) / distance
        across = np.linalg.norm(centre - along[:, None] * root / distance[:, None], axis=1) / along
        size = self._predictor.network.crop_size_px
        return {
            "beside_px": round(float(np.median(across * distance * size / CROP_SIDE_MM)), 3),
            "depth_pct": round(
                float(100 * np.median(np.abs(np.linalg.norm(centre, axis=1) / distance - 1))), 3
            ),
        }


def _picture(found: Prediction, i: int) -> NDArray[np.uint8]:
    crop = found.crops[i]
    joints = found.joints_mm[i] @ crop.virtual.R_cam_to_crop.T + [0.0, 0.0, crop.virtual.depth_mm]
    size = crop.virtual.crop_size_px
    picture = np.asarray(
        cv2.resize(crop.image, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_NEAREST), np.uint8
    )
    pixels = project_crop(joints, focal_px=crop.virtual.focal_px, crop_size_px=size)
    draw_skeleton(picture, (pixels + 0.5) * PICTURE_PX / size - 0.5)
    return picture
