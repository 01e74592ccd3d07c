"""What an embedding is blind to, and what it sees: distances between views beside distances between poses."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def embedding_report(
    points: NDArray, appearance: NDArray, *, R_world_to_crop: NDArray, views: NDArray[np.int64]
) -> dict[str, Any]:
    """Root mean square distances of L_3D (N,P,3) and of L_app (N,A) over the instants ``views`` (I,C).

    ``l3d.views``: two views of one instant, both turned into the world; 0 if L_3D were a body's points.
    ``l3d.instants``: two instants in one view, turned likewise. ``l3d.views_over_instants``, their ratio,
    is 0 for a perfect geometry and 1 where views of one instant are as far apart as any two poses.
    ``l_app`` likewise, without turning. ``R_world_to_crop`` (N,3,3). Instants are compared with the one
    half of the list away, which is another subject's or another action's.
    """
    world = np.einsum("tckd,tcpk->tcpd", R_world_to_crop[views], points[views].astype(np.float64))
    return {
        "instants": len(views),
        "l3d": _distances(world.reshape(*views.shape, -1)),
        "l_app": _distances(appearance[views].astype(np.float64)),
    }


def _distances(latents: NDArray[np.float64]) -> dict[str, float]:
    between_views = _rms(latents - np.roll(latents, 1, axis=1))
    between_instants = _rms(latents - np.roll(latents, len(latents) // 2, axis=0))
    return {
        "views": between_views,
        "instants": between_instants,
        "views_over_instants": between_views / max(between_instants, 1e-12),
    }


def _rms(differences: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(differences).mean()))
