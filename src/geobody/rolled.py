"""How a pose head bears a camera that is rolled about its optical axis."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geobody.data.augmentation import roll_images, roll_matrices
from geobody.data.crops import CropShards
from geobody.models.arm import EncoderDecoder
from geobody.models.encoder_decoder import INFERENCE_BATCH, load_views
from geobody.models.pose_head import PoseHead
from geobody.report.pose_report import pose_report

ROLLS_DEG: Final = (0.0, 5.0, 15.0, 45.0)


@torch.inference_mode()
def rolled_errors(
    encoder: EncoderDecoder, head: PoseHead, shards: CropShards, rows: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Errors on crops ``rows`` (N,) by roll, in degrees: see ``pose_report``.

    Every second crop is rolled the other way. Joints are compared in the rolled crop's frame.
    """
    encoder, head = encoder.eval(), head.eval()
    truth = torch.from_numpy(shards.table["joints_mm"][rows].astype(np.float32))
    signs = torch.ones(len(rows))
    signs[1::2] = -1.0
    found = {}
    for degrees in ROLLS_DEG:
        angles = signs * float(np.deg2rad(degrees))
        predicted = []
        for start in range(0, len(rows), INFERENCE_BATCH):
            chosen = slice(start, start + INFERENCE_BATCH)
            views, masks_diff, _ = load_views(shards, rows[chosen], torch.device("cpu"))
            images = roll_images(views.images, angles[chosen])
            masks_diff = roll_images(masks_diff, angles[chosen], padding="zeros")
            seen = encoder.network_input(images, masks_diff).contiguous(memory_format=torch.channels_last)
            predicted.append(head(encoder.encode(seen).points))
        rolled = torch.einsum("nij,nkj->nki", roll_matrices(angles), truth)
        found[f"{degrees:g}"] = pose_report(torch.cat(predicted).numpy(), rolled.numpy())
    return found
