"""`Predictor` on images in memory, beside its bare networks and body on tensors that are ready-made.

What the call adds is cutting the crops out, turning the results into the image's camera frame, and copies; what it
saves are the encoder's batch norms, which it folds. Nothing is written. The images are noise with a box each: pixels
cost the same whatever they show. Each crop by a box is cut ``RECENTRINGS`` times anew around the root that the encoder
and the head find in it, so the bare networks look for it as often. Crops are cut in a thread beside the networks, so
where no core is free the ratio is that of CPU time.
"""

from pathlib import Path

import numpy as np
import torch

from geobody.models.regressor import pose_body
from geobody.predict import BATCH, RECENTRINGS, Predictor
from tools.bench.timing import Comparison, compare

GOAL = 1.2
IMAGES = 256
IMAGE_PX = 256
BOX = (80.0, 40.0, 70.0, 170.0)
"""x, y, width, height: a standing person in the middle of a room."""


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares with the networks of ``repository``: DataError says which one is missing."""
    predictor = Predictor.open(repository)
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (IMAGES, IMAGE_PX, IMAGE_PX, 3), np.uint8))
    boxes = [BOX] * IMAGES
    masks = [np.full((IMAGE_PX, IMAGE_PX), 255, np.uint8)] * IMAGES if predictor.needs_masks else None
    size = predictor.network.crop_size_px
    ready = torch.rand(IMAGES, 3, size, size).contiguous(memory_format=torch.channels_last)

    def call() -> None:
        predictor(images, boxes=boxes, masks=masks)

    @torch.inference_mode()
    def bare() -> None:
        for batch in ready.split(BATCH):
            for _ in range(RECENTRINGS):
                predictor.head(predictor.network.encode(batch).points)
            latent = predictor.network.encode(batch)
            predictor.head(latent.points)
            pose_body(predictor.body, predictor.regressor(latent.points, latent.appearance))

    return compare(
        subject=(f"predict {IMAGES} images", call),
        reference=(f"networks and body on {IMAGES} crops", bare),
        repeats=repeats,
        goal=GOAL,
    )
