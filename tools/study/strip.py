"""The ablation's picture: one test image of a person who faces away, with the body that each row makes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import dvc.api
import numpy as np
import pyarrow.parquet as pq
from dvc.exceptions import DvcException
from numpy.typing import NDArray

from geobody.body.model import BodyModel
from geobody.config import load_params
from geobody.conventions import AWAY_DEG
from geobody.data.crops import CropShards
from geobody.evaluation import body_errors, facing_deg
from geobody.paths import CROPS
from geobody.predictions import Predictions
from geobody.report.figures import draw_body, draw_image, image_grid, new_figure, save_png, turned

FIGURE: Final = Path("metrics/figures/ablation.png")
PREDICTIONS: Final = "data/eval/predictions.parquet"
TILE_PX: Final = 192
COLUMNS: Final = ("key", "theta_pred", "betas_pred", "theta_true", "betas_true")
ROW: Final = "default"


def draw(repository: Path, references: Mapping[str, str]) -> bool:
    """Writes the strip of the experiments ``references`` (arm -> Git reference); False if DVC's cache lacks a body.

    Of the images of people facing away, that on which the default's body is off by the median PVE. There must be some,
    and a row ``default``, and the truth must be known.
    """
    found = {}
    for arm, reference in references.items():
        try:
            with dvc.api.open(PREDICTIONS, repo=str(repository), rev=reference, mode="rb") as file:
                table = pq.read_table(file, columns=list(COLUMNS))
        except (DvcException, OSError):
            return False
        found[arm] = Predictions({name: _array(table, name) for name in COLUMNS})
    body = BodyModel.load(repository / load_params(repository / "params.yaml").body.model)
    row = _median_away(found[ROW], body)
    crops = CropShards.open(repository / CROPS)
    line = int(np.flatnonzero(crops.table["key"] == found[ROW].columns["key"][row])[0])
    _strip(
        repository / FIGURE,
        {arm: p.take(np.array([row])) for arm, p in found.items()},
        crops=crops,
        line=line,
        body=body,
    )
    return True


def _array(table, name: str) -> NDArray:  # type: ignore[no-untyped-def]
    values = np.array(table.column(name).to_pylist())
    return values if name == "key" else values.astype(np.float32)


def _median_away(predictions: Predictions, body: BodyModel) -> int:
    away = np.flatnonzero(facing_deg(predictions.rotations("true")[:, 0]) > AWAY_DEG)
    errors = body_errors(predictions.take(away), "pred", body=body)["pve_mm"]
    return int(away[np.argsort(errors, kind="stable")[len(away) // 2]])


def _strip(
    path: Path, bodies: Mapping[str, Predictions], *, crops: CropShards, line: int, body: BodyModel
) -> None:
    """Above each other: the body over the image, and from the side; the truth comes last."""
    focal = float(crops.table["focal_px"][line]) * TILE_PX / crops.crop_size_px
    root = crops.root_crop_mm(np.asarray(line))
    image = np.asarray(
        cv2.resize(crops.images[line], (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC), np.uint8
    )
    faces = body.faces.numpy()

    def tiles(vertices: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        seen, aside = (turned(vertices, angle) + root for angle in (0.0, 90.0))
        return (
            draw_body(seen, faces, focal_px=focal, size_px=TILE_PX, image=image, opacity=0.8),
            draw_body(aside, faces, focal_px=focal, size_px=TILE_PX),
        )

    columns = [("input", (image, np.full_like(image, 255)))]
    for arm, predictions in bodies.items():
        error = body_errors(predictions, "pred", body=body)["pve_mm"][0]
        columns.append((f"{arm}\n{error:.0f} mm", tiles(predictions.vertices_mm("pred", body)[0])))
    columns.append(("true", tiles(next(iter(bodies.values())).vertices_mm("true", body)[0])))
    across = -(-len(columns) // 2)
    figure = new_figure(1.05 * across, 5.2)
    axes = image_grid(figure, 4, across, top=0.93, left=0.01)
    figure.subplots_adjust(hspace=0.2)
    for number, (title, pictures) in enumerate(columns):
        block, column = divmod(number, across)
        for line_of_block, picture in enumerate(pictures):
            title_here = title.replace("_", " ") if not line_of_block else ""
            draw_image(axes[2 * block + line_of_block, column], picture, title=title_here)
    save_png(path, figure)
