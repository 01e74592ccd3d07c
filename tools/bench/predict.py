"""`Predictor` on images in memory, beside its bare networks and body on tensors that are ready-made.

What the call adds is cutting the crops out, turning the results into the image's camera frame, and copies; what it
saves are the encoder's batch norms, which it folds. Nothing is written. The images are the data set's, with a box each.
Each crop by a box is cut ``RECENTRINGS`` times anew around the root that the encoder and the head find in it, so the
bare networks look for it as often; benchmark predict_whole has images that are crops already, which go through them
once. Crops are cut in a thread beside the networks, so where no core is free the ratio is that of CPU time.
"""

from pathlib import Path

import numpy as np
import torch

from geobody.box_crops import BoxedImage, boxed_images
from geobody.config import load_params
from geobody.data.index import Index
from geobody.models.regressor import pose_body
from geobody.paths import INDEX
from geobody.predict import BATCH, RECENTRINGS, Predictor
from tools.bench.timing import Action, Comparison, compare

GOAL = 1.2
IMAGES = 256


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares with the networks and test images of ``repository``: DataError says what is missing."""
    predictor, found = Predictor.open(repository), images_of(repository)
    images, boxes = [boxed.image for boxed in found], [boxed.box for boxed in found]
    masks = [boxed.difference for boxed in found] if predictor.needs_masks else None

    def call() -> None:
        predictor(images, boxes=boxes, masks=masks)

    return compare(
        subject=(f"predict {len(images)} images", call),
        reference=(
            f"networks and body on {len(images)} crops",
            bare(predictor, len(images), searches=RECENTRINGS),
        ),
        repeats=repeats,
        goal=GOAL,
    )


def images_of(repository: Path) -> list[BoxedImage]:
    """``IMAGES`` of the test subjects, evenly taken, with their boxes."""
    params = load_params(repository / "params.yaml")
    index = Index.open(repository / INDEX)
    rows = np.flatnonzero(index.column("split") == "test")
    rows = rows[np.linspace(0, len(rows) - 1, IMAGES).round().astype(np.int64)]
    return list(
        boxed_images(
            index,
            rows,
            root=repository / params.dataset.root,
            backgrounds=repository / "data/backgrounds",
            threshold=params.crops.difference_threshold,
            noise_factor=params.crops.difference_noise_factor,
        )
    )


def bare(predictor: Predictor, crops: int, *, searches: int) -> Action:
    """The networks and the body on so many crops, which are ready; the pose alone ``searches`` times before."""
    size = predictor.network.crop_size_px
    ready = torch.rand(crops, 3, size, size).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def action() -> None:
        for batch in ready.split(BATCH):
            for _ in range(searches):
                predictor.head(predictor.network.encode(batch).points)
            latent = predictor.network.encode(batch)
            predictor.head(latent.points)
            pose_body(predictor.body, predictor.regressor(latent.points, latent.appearance))

    return action
