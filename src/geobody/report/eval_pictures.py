"""Which test images stage ``eval`` shows, and everything that it draws of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geobody.body.model import BodyModel
from geobody.data.crops import CropShards
from geobody.evaluation import body_errors
from geobody.models.arm import DrawingArm, EncoderDecoder
from geobody.models.encoder_decoder import draw_turned, draw_views
from geobody.predictions import Predictions
from geobody.report import eval_figures as figures
from geobody.views import other_views

PICTURES: Final = (
    "skeletons", "novel_views", "turned", "neighbours", "bodies", "worst_bodies", "errors",
)  # fmt: skip
WORST: Final = 12
SEQUENCE: Final = ("subject", "action", "subaction", "camera")
"""Columns of which images of one sequence have the same values: two takes of an action are two sequences."""
TURNED_PEOPLE: Final = 6
ANGLES_DEG: Final = np.arange(0.0, 360.0, 45.0)
NEIGHBOURS: Final = 3


def draw_pictures(
    paths: Mapping[str, Path],
    *,
    shards: CropShards,
    rows: NDArray[np.int64],
    views: NDArray[np.int64],
    predictions: Predictions,
    metrics: Mapping[str, Any],
    l3d: NDArray,
    network: EncoderDecoder,
    body: BodyModel,
) -> None:
    """Writes ``PICTURES``. ``rows`` (N,) are the crops of ``predictions``, ``l3d`` (N,P,3) their embeddings in
    their crop frames by ``network``, which draws views; ``views`` (I,C) are the crops of the instants that every
    camera saw.

    Images are shown by rule: one or two for each direction that a person can face, and the worst bodies, one of
    each sequence, as neighbours in time are alike.
    """
    true = predictions.joints("joints_true_mm")
    complete = np.isin(rows, views)
    allowed = complete if complete.any() else ~complete
    subjects = predictions.columns["subject"]
    shown, more = (figures.rows_by_direction(true, subjects, allowed, turn=turn) for turn in (0, 1))
    images = np.asarray(shards.images[rows[shown]])
    sample = predictions.take(shown)
    figures.skeletons_figure(
        paths["skeletons"], images, sample.joints("joints_pred_mm"), sample.joints("joints_true_mm")
    )

    others = other_views(views, rows[shown])
    drawn = around = None
    few = shown[:: max(1, len(shown) // TURNED_PEOPLE)][:TURNED_PEOPLE]
    if isinstance(network, DrawingArm):
        drawn = draw_views(
            network, shards, source=np.repeat(rows[shown], others.shape[1]), target=others.ravel()
        )
        drawn = drawn.reshape(*others.shape, *drawn.shape[1:])
        around = draw_turned(
            network,
            shards,
            rows=np.repeat(rows[few], len(ANGLES_DEG)),
            angles_deg=np.tile(ANGLES_DEG, len(few)),
        )
        around = around.reshape(len(few), len(ANGLES_DEG), *around.shape[1:])
    figures.novel_views_figure(
        paths["novel_views"], inputs=images, drawn=drawn, true=np.asarray(shards.images[others])
    )
    inputs = np.asarray(shards.images[rows[few]])
    figures.turned_figure(paths["turned"], inputs=inputs, drawn=around, angles_deg=ANGLES_DEG)

    nearest = neighbours_in_other_views(
        l3d, shown, R_world_to_crop=shards.table["R_world_to_crop"][rows], camera=shards.table["camera"][rows]
    )
    instant = shards.table["instant"][rows]
    names = np.where(instant[nearest] == instant[shown, None], "same instant", "another instant")
    names[:, 0] = ""
    figures.neighbours_figure(
        paths["neighbours"], images=shards.images, neighbours=rows[nearest], titles=names
    )

    errors = body_errors(predictions, "pred", body=body)["pve_mm"] if predictions.has_truth else None
    facing = np.unique(np.concatenate((shown, more)), return_index=True)[1]
    both = np.concatenate((shown, more))[np.sort(facing)]
    # Without true vertices the joints say who is worst.
    judged = errors if errors is not None else np.linalg.norm(
        predictions.joints("smpl_joints_pred_mm") - true, axis=-1
    ).mean(axis=1)  # fmt: skip
    worst = worst_of_sequences(judged, np.stack([predictions.columns[name] for name in SEQUENCE], 1))
    by = "joint error" if errors is None else "PVE"
    of_worst = f"worst image of each of the {len(worst)} worst sequences, by {by}"
    for name, which, title in (("bodies", both, ""), ("worst_bodies", worst, of_worst)):
        sample = predictions.take(which)
        figures.bodies_figure(
            paths[name],
            shards=shards,
            rows=rows[which],
            faces=body.faces.numpy(),
            predicted=sample.vertices_mm("pred", body),
            true=sample.vertices_mm("true", body) if sample.has_truth else None,
            errors_mm=None if errors is None else errors[which],
            title=title,
        )
    figures.errors_figure(paths["errors"], metrics, predictions)


def worst_of_sequences(errors: NDArray, sequences: NDArray) -> NDArray[np.int64]:
    """At most ``WORST`` rows with the largest ``errors`` (N,), one of each of the ``sequences`` (N,K), worst first."""
    order = np.argsort(-errors, kind="stable")
    _, first = np.unique(sequences[order], axis=0, return_index=True)
    return order[np.sort(first)[:WORST]]


def neighbours_in_other_views(
    l3d: NDArray, queries: NDArray[np.int64], *, R_world_to_crop: NDArray, camera: NDArray
) -> NDArray[np.int64]:
    """(Q,1+NEIGHBOURS): each query and the rows of other cameras whose L_3D (N,P,3), in the world, is nearest."""
    world = np.einsum("nkd,npk->npd", R_world_to_crop, l3d.astype(np.float64)).reshape(len(l3d), -1)
    found = np.repeat(queries[:, None], 1 + NEIGHBOURS, axis=1)
    for line, query in enumerate(queries):
        elsewhere = camera != camera[query]
        if not elsewhere.any():  # one camera
            elsewhere = np.arange(len(l3d)) != query
        candidates = np.flatnonzero(elsewhere)
        distance = np.square(world[candidates] - world[query]).sum(axis=1)
        nearest = candidates[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
        found[line, 1 : 1 + len(nearest)] = nearest
    return found
