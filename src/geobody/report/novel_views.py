"""How well the encoder-decoder draws a person from another camera: PSNR, SSIM and a picture."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geobody.data.crops import CropShards
from geobody.metrics import psnr, ssim
from geobody.models.arm import DrawingArm, EncoderDecoder
from geobody.models.encoder_decoder import draw_views
from geobody.report.contact_sheet import contact_sheet, write_sheet

MAX_INSTANTS = 150
SIX_BITS = np.uint8(0xFC)
"""Six bits a channel look as eight do and take two thirds of the file."""
PICTURE_PX = 128
"""Least side of a picture in the figure; smaller crops are enlarged without smoothing."""


def novel_view_metrics(
    network: EncoderDecoder, crops: CropShards, views: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Means over ``views`` (I,C), row numbers of instants: {"same", "novel", "background"} -> metrics.

    At most ``MAX_INSTANTS`` instants, evenly spread, are seen by one camera each (in turn) and drawn for
    all. "background" scores the empty background against the novel views: what drawing nobody reaches, and
    all that there is of an arm that does not draw.
    PSNR in dB and SSIM on the person (weighted by the mask) and on the whole crop.
    """
    views = spread(views, MAX_INSTANTS)
    count, cameras = views.shape
    seen_by = np.arange(count) % cameras
    source = np.repeat(views[np.arange(count), seen_by], cameras)
    target = views.reshape(-1)
    same = source == target
    background = crops.backgrounds[target] / 255.0
    scores = {"background": _scores(background[~same], crops, target[~same])}
    if isinstance(network, DrawingArm):
        drawn = draw_views(network, crops, source=source, target=target)
        scores["same"] = _scores(drawn[same], crops, target[same])
        scores["novel"] = _scores(drawn[~same], crops, target[~same])
    return scores


def spread(views: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most ``count`` rows of ``views``, evenly spread."""
    return views[np.unique(np.linspace(0, len(views) - 1, min(count, len(views))).round().astype(int))]


def _scores(drawn: NDArray, crops: CropShards, rows: NDArray[np.int64]) -> dict[str, float]:
    true, masks = crops.images[rows] / 255.0, crops.masks[rows] / 255.0
    return {
        "psnr_person_db": float(np.nanmean(psnr(drawn, true, mask=masks))),
        "psnr_crop_db": float(np.mean(psnr(drawn, true))),
        "ssim_person": float(np.nanmean(ssim(drawn, true, mask=masks))),
        "ssim_crop": float(np.mean(ssim(drawn, true))),
    }


def draw_novel_views(
    path: Path, network: EncoderDecoder, crops: CropShards, views: NDArray[np.int64]
) -> None:
    """Writes a picture with a row for each of ``views`` (I,C).

    Columns: the input (first camera), its own view drawn, then each other camera's image and drawing. Of
    an arm that does not draw: the images alone.
    """
    cameras = views.shape[1]
    enlarged = max(1, PICTURE_PX // crops.crop_size_px)
    grid = []
    for rows in views:
        pictures = [crops.images[rows]]
        if isinstance(network, DrawingArm):
            drawn = draw_views(network, crops, source=np.repeat(rows[:1], cameras), target=rows)
            pictures.append((255 * drawn).round().astype(np.uint8))
        columns = zip(*pictures, strict=True)
        grid.append(
            [
                np.bitwise_and(_enlarge(picture, enlarged), SIX_BITS)
                for column in columns
                for picture in column
            ]
        )
    kinds = ["input", *(f"camera {camera + 1}" for camera in range(1, cameras))]
    draws = ("drawn",) if isinstance(network, DrawingArm) else ()
    labels = [label for kind in kinds for label in (kind, *draws)]
    subjects = [f"S{crops.table['subject'][rows[0]]}" for rows in views]
    write_sheet(path, contact_sheet(grid, column_labels=labels, row_labels=subjects))


def _enlarge(picture: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    return picture.repeat(times, axis=0).repeat(times, axis=1)
