"""What is said of a trained body regressor on training subjects: errors, overlaps, a picture."""

from pathlib import Path

import cv2
import numpy as np
import torch

from geobody.body.model import BodyModel
from geobody.body_losses import turned_views
from geobody.data.crops import CropShards
from geobody.metrics import mpjpe, n_mpjpe
from geobody.models.regressor import SmplRegressor, apply_regressor, posed_bodies
from geobody.render.silhouettes import SilhouetteRenderer

OVERLAP_IMAGES = 50
"""Images that overlaps are measured on, spread evenly: drawing all would take longer than it tells."""

COLUMNS, PICTURES, TILE_PX = 8, 16, 120
PREDICTED_RGB, MASK_RGB = (255, 140, 0), (0, 220, 255)


class RegressorReport:
    """Judges a regressor by labels and masks of the crops; chooses nothing."""

    def __init__(
        self,
        *,
        shards: CropShards,
        l3d: np.ndarray,
        lapp: np.ndarray,
        body: BodyModel,
        regressor: SmplRegressor,
    ) -> None:
        self.shards, self.l3d, self.lapp, self.body, self.regressor = shards, l3d, lapp, body, regressor
        self.renderer = SilhouetteRenderer(faces=body.faces.cpu(), size_px=shards.crop_size_px)
        self.views_of = {int(row): views for views in shards.views(split="train") for row in views}

    def errors(self, rows: np.ndarray) -> dict[str, float]:
        """MPJPE and N-MPJPE of rows (N,), and the silhouettes' IoU in the input view and in the others.

        An overlap that nothing can be said of is left out: no row's instant was seen by all cameras, or
        there is no other camera.
        """
        found = apply_regressor(self.regressor, self.l3d[rows], self.lapp[rows])
        joints = posed_bodies(
            self.body, rotations=found["rotations"], betas=found["betas"], with_vertices=False
        )["joints17_mm"]
        true = self.shards.table["joints_mm"][rows]
        errors = {"mpjpe_17_mm": mpjpe(joints, true), "n_mpjpe_17_mm": n_mpjpe(joints, true)}
        complete = np.array([row for row in rows if int(row) in self.views_of], dtype=np.int64)
        spread = np.linspace(0, len(complete) - 1, min(OVERLAP_IMAGES, len(complete)))
        chosen = complete[spread.astype(int)]
        seen: list[float] = []
        unseen: list[float] = []
        for row, vertices in zip(chosen, self._vertices(chosen), strict=True):
            views = self.views_of[int(row)]
            for view, iou in zip(views, self._overlaps(row, views, vertices), strict=True):
                (seen if view == row else unseen).append(iou)
        overlaps = {"iou_input": seen, "iou_others": unseen}
        means = {name: float(np.mean(values)) for name, values in overlaps.items() if values}
        return {name: float(values.mean()) for name, values in errors.items()} | means

    def draw(self, path: Path, *, rows: np.ndarray) -> None:
        """Writes crops, spread over ``rows``, with outlines of the predicted body and of the mask."""
        chosen = rows[np.linspace(0, len(rows) - 1, PICTURES).astype(int)]
        tiles = []
        for row, vertices in zip(chosen, self._vertices(chosen), strict=True):
            image = cv2.resize(self.shards.images[row], (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
            drawn = self._silhouettes(np.array([row]), vertices[None])[0]
            for mask, colour in ((self.shards.masks[row] / 255.0, MASK_RGB), (drawn, PREDICTED_RGB)):
                large = cv2.resize(mask.astype(np.float32), (TILE_PX, TILE_PX))
                outlines, _ = cv2.findContours(
                    (large > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
                )
                image = cv2.drawContours(image, outlines, -1, colour, 1)
            tiles.append(image)
        grid = np.concatenate(
            [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        coded = cv2.imencode(".png", grid[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
        path.write_bytes(coded.tobytes())

    def _vertices(self, rows: np.ndarray) -> np.ndarray:
        found = apply_regressor(self.regressor, self.l3d[rows], self.lapp[rows])
        return posed_bodies(self.body, rotations=found["rotations"], betas=found["betas"])["vertices_mm"]

    def _overlaps(self, row: int, views: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        R = torch.from_numpy(self.shards.table["R_world_to_crop"].astype(np.float32))
        turned = turned_views(torch.from_numpy(vertices)[None], R[row][None], R[views][None])[0]
        drawn = self._silhouettes(views, turned.numpy()) > 0.5
        masks = self.shards.masks[views] > 127
        return (drawn & masks).sum((1, 2)) / np.maximum((drawn | masks).sum((1, 2)), 1)

    def _silhouettes(self, rows: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        placed = (vertices + self.shards.root_crop_mm(rows)[:, None]).astype(np.float32)
        focal = torch.from_numpy(self.shards.table["focal_px"][rows].astype(np.float32))
        return self.renderer(torch.from_numpy(placed), focal).numpy()
