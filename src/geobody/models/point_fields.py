"""Points in space out of features of an image: where in the picture something is, and how deep.

A heat map over the image says where a point is seen. Its place is that mean over the picture (Sun et al.,
Integral Human Pose Regression, 2018) plus the mean, under the same heat, of a field that says how far off and how
deep the point lies (Mehta et al., VNect, 2017). Nothing is flattened, so what is learned of a wrist at one place
holds at all.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from geobody.conventions import CROP_SIDE_MM, MM_PER_M
from geobody.models.feature_pyramid import FINE_WIDTH

HALF_CROP_M = CROP_SIDE_MM / MM_PER_M / 2
SHARPNESS = 10.0
REACH_M = 2.5
"""What a field's 1 means, and the heat's sharpness: gains, so that small first weights learn fast enough."""
FIRST_STD = 0.01


class Points(NamedTuple):
    """``places`` (B,P,3) in metres, axes of the crop frame, from the point the crop is centred on; ``heat``
    (B,P,s*s): logits over the cells of the feature map, row by row."""

    places: Tensor
    heat: Tensor


class PointFields(nn.Module):
    """Features (B,64,s,s) -> ``count`` points, float32. ``start`` (P,3) is where they are before any training.

    A field is linear in the features, so its mean under the heat is that of the features there: the field itself
    is never computed.
    """

    grid: Tensor

    def __init__(self, *, side: int, count: int, start: Tensor | None = None) -> None:
        super().__init__()
        self.warmth = nn.Parameter(torch.empty(count, FINE_WIDTH))
        self.slope = nn.Parameter(torch.empty(count, 3, FINE_WIDTH))
        self.offset = nn.Parameter(torch.empty(count, 3))
        self.register_buffer("grid", cell_centres(side), persistent=False)
        self.forget(count)
        if start is not None:
            self.offset = nn.Parameter(start / REACH_M)

    def forward(self, features: Tensor) -> Points:
        cells = features.flatten(2).contiguous()  # (B,64,s*s)
        logits = torch.matmul(
            SHARPNESS * self.warmth, cells
        ).float()  # the two large products as autocast likes
        heat = logits.softmax(-1)
        pooled = torch.matmul(heat, cells.transpose(1, 2))
        with torch.autocast(features.device.type, enabled=False):
            seen = HALF_CROP_M * (heat @ self.grid)
            beside = REACH_M * (torch.einsum("bpf,pcf->bpc", pooled.float(), self.slope) + self.offset)
            return Points(torch.cat([seen + beside[..., :2], beside[..., 2:]], -1), logits)

    @torch.no_grad()
    def forget(self, count: int) -> None:
        """Gives the first ``count`` points new weights, as those of an untrained network without ``start``."""
        nn.init.normal_(self.warmth[:count], std=FIRST_STD)
        nn.init.normal_(self.slope[:count], std=FIRST_STD)
        self.offset[:count] = 0.0


def cell_centres(side: int) -> Tensor:
    """(side*side,2): x and y of a map's cells, row by row, in [-1,1] from edge to edge of the crop."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)
