"""Predictions seen from all cameras: silhouettes against masks, synthesised views against images."""

import numpy as np
import torch
from numpy.typing import NDArray

from geobody.body.model import BodyModel
from geobody.data.crops import CropShards
from geobody.metrics import mask_iou, psnr, ssim
from geobody.models.arm import DrawingArm, EncoderDecoder
from geobody.models.encoder_decoder import draw_views
from geobody.models.regressor import posed_bodies
from geobody.render.silhouettes import SilhouetteRenderer

BATCH = 64


def some_instants(views: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most ``count`` rows of ``views`` (I,C), evenly spaced."""
    if len(views) <= count:
        return views
    return views[np.unique(np.linspace(0, len(views) - 1, count).round().astype(np.int64))]


def other_views(views: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The crops (N,C-1) of the other cameras at the instants of ``rows`` (N,), by camera.

    (N,1), each row itself, where ``views`` (I,C) lacks one of the instants or there is one camera.
    """
    home = {int(row): line for line in views for row in line}
    if views.shape[1] < 2 or any(int(row) not in home for row in rows):
        return rows[:, None]
    return np.stack([home[int(row)][home[int(row)] != row] for row in rows])


def in_view(
    shards: CropShards, vertices: NDArray, *, source: NDArray, target: NDArray
) -> NDArray[np.float32]:
    """Vertices (N,V,3), mm, root-centred in crops ``source`` (N,), placed before the cameras of ``target`` (N,).

    The root is put where it is known to be, as the crops themselves are made around it.
    """
    R = shards.table["R_world_to_crop"]
    turn = R[target] @ np.swapaxes(R[source], 1, 2)
    placed = shards.root_crop_mm(target)[:, None]
    return (vertices @ np.swapaxes(turn, 1, 2) + placed).astype(np.float32)


def silhouette_iou(
    *, shards: CropShards, views: NDArray[np.int64], body: BodyModel, rotations: NDArray, betas: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU (I,C) of predicted silhouettes with the masks in the input view, and their mean over the others.

    ``views`` (I,C) are crops of one instant; ``rotations`` (I,C,24,3,3), in each crop's frame, and
    ``betas`` (I,C,10) what was predicted from each. Both sides are cut at one half.
    """
    renderer = SilhouetteRenderer(faces=body.faces.cpu(), size_px=shards.crop_size_px)
    n_cameras = views.shape[1]
    seen, unseen = np.zeros(views.shape), np.zeros(views.shape)
    for camera in range(n_cameras):
        source = views[:, camera]
        for start in range(0, len(views), BATCH):
            rows = slice(start, start + BATCH)
            vertices = posed_bodies(
                body,
                rotations=rotations[rows, camera].astype(np.float32),
                betas=betas[rows, camera].astype(np.float32),
            )["vertices_mm"]
            for other in range(n_cameras):
                target = views[rows, other]
                placed = in_view(shards, vertices, source=source[rows], target=target)
                focal = torch.from_numpy(shards.table["focal_px"][target].astype(np.float32))
                drawn = renderer(torch.from_numpy(placed), focal).numpy() >= 0.5
                iou = mask_iou(drawn, np.asarray(shards.masks[target]) >= 128)
                if other == camera:
                    seen[rows, camera] = iou
                else:
                    unseen[rows, camera] += iou / (n_cameras - 1)
    return seen, unseen


def view_quality(
    *, shards: CropShards, network: EncoderDecoder, source: NDArray[np.int64], target: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """PSNR and SSIM (N,) of views ``target`` drawn from ``source``, and of the empty backgrounds.

    On the person (weighted by the data set's mask; NaN where it is empty) and on the whole crop.
    Keys as the columns of the predictions; those of an arm that draws nothing are absent.
    """
    true, empty = (np.asarray(x[target], np.float64) / 255 for x in (shards.images, shards.backgrounds))
    mask = np.asarray(shards.masks[target], np.float64) / 255
    pictures = {"background": empty}
    if isinstance(network, DrawingArm):
        pictures["nvs"] = np.clip(draw_views(network, shards, source=source, target=target), 0, 1)
    found = {}
    for name, picture in pictures.items():
        for where, weights in (("person", mask), ("crop", None)):
            found[f"{name}_psnr_{where}_db"] = psnr(picture, true, mask=weights)
            found[f"{name}_ssim_{where}"] = ssim(picture, true, mask=weights)
    return found
