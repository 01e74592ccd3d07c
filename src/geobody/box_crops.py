"""Test images as a user has them: a picture, its camera, and a box around the person in place of a labelled root."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.conventions import H36M_ROOT
from geobody.data.backgrounds import read_background
from geobody.data.difference import difference_mask
from geobody.data.h36m import read_image, read_mask
from geobody.data.index import Index
from geobody.data.user_crops import Box, Request
from geobody.geometry.cameras import Camera


@dataclass(frozen=True)
class BoxedImage:
    """``image`` (H,W,3) uint8 RGB of ``camera``; ``box`` around the mask of the data set, or around the ``difference``
    (H,W) to the background where it has none; ``joints_mm`` (17,3) in the camera's frame."""

    name: str
    image: NDArray[np.uint8]
    difference: NDArray[np.uint8]
    camera: Camera
    box: Box
    joints_mm: NDArray[np.float64]

    @property
    def root_mm(self) -> NDArray[np.float64]:
        """(3,) in the camera's frame."""
        return self.joints_mm[H36M_ROOT]

    def request(self, box: Box) -> Request:
        """What asks for a crop by ``box``. No mask of the data set is in it."""
        mask = self.difference if self.difference.any() else None
        return Request(image=self.image, name=self.name, way="box", box=box, mask=mask, camera=self.camera)


def boxed_images(
    index: Index,
    rows: NDArray[np.int64],
    *,
    root: Path,
    backgrounds: Path,
    threshold: float,
    noise_factor: float,
) -> Iterator[BoxedImage]:
    """The images ``rows`` (N,) of the index, one after another, but those whose mask shows nobody.

    ``threshold`` and ``noise_factor`` as of `difference_mask`, which sees the whole image here and a crop in the stage
    crops: on the track ``masked`` what the networks see differs a little from the pipeline's crops. Raises DataError
    for a file that is missing or broken.
    """
    columns = {
        name: index.column(name)[rows]
        for name in ("key", "image", "mask", "subject", "camera", "sequence_id", "joints_world_mm")
    }
    for i in range(len(rows)):
        row = {name: values[i] for name, values in columns.items()}
        camera = index.cameras[row["sequence_id"]]
        size = {"width_px": camera.width_px, "height_px": camera.height_px}
        image = read_image(root / row["image"], **size)
        background = read_background(
            backgrounds, subject=int(row["subject"]), camera=int(row["camera"]), **size
        )
        difference = difference_mask(image, background, threshold=threshold, noise_factor=noise_factor)
        shown = read_mask(root / row["mask"], **size) if index.has_masks else difference
        if not shown.any():
            continue
        yield BoxedImage(
            name=str(row["key"]),
            image=image,
            difference=difference,
            camera=camera,
            box=box_of(shown),
            joints_mm=camera.to_camera(row["joints_world_mm"]),
        )


def box_of(mask: NDArray[np.uint8]) -> Box:
    """The box of what a mask (H,W), not empty, covers."""
    x, y, width, height = map(float, cv2.boundingRect(mask))
    return x, y, width, height


def box_off(box: Box, share: float, rng: np.random.Generator) -> Box:
    """``box`` displaced and stretched by ``share`` of its sides, in each dimension one way or the other."""
    x, y, width, height = box
    right, down, wider, higher = share * rng.choice((-1.0, 1.0), 4)
    return (
        x + (right - wider / 2) * width,
        y + (down - higher / 2) * height,
        width * (1 + wider),
        height * (1 + higher),
    )
