"""What a stage that trains on poses says of itself: a few errors on training subjects."""

from numpy.typing import ArrayLike

from geobody.metrics import mpjpe, n_mpjpe, p_mpjpe, spread_mm


def pose_report(predicted_mm: ArrayLike, true_mm: ArrayLike) -> dict[str, float]:
    """Mean errors over 17 joints and the spread of poses (N,17,3), in mm; see `geobody.metrics`.

    The truth's spread stands beside the predictions': a cautious model shrinks towards the mean.
    """
    return {
        "mpjpe_17_mm": float(mpjpe(predicted_mm, true_mm).mean()),
        "n_mpjpe_17_mm": float(n_mpjpe(predicted_mm, true_mm).mean()),
        "p_mpjpe_17_mm": float(p_mpjpe(predicted_mm, true_mm).mean()),
        "spread_mm": spread_mm(predicted_mm),
        "true_spread_mm": spread_mm(true_mm),
    }
