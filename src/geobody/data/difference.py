"""Masks without a label: where a picture differs from its background."""

import cv2
import numpy as np
from numpy.typing import NDArray

SHADOW_WEIGHT = 0.3
"""Weight of a pure darkening: a soft shadow darkens the floor and hardly changes its colour."""

_SMALLEST_PART = 0.1
_MEDIAN_OF_CHI3 = 1.538


def difference_mask(
    image: NDArray[np.uint8],
    background: NDArray[np.uint8],
    *,
    valid: NDArray[np.bool_] | None = None,
    threshold: float,
    noise_factor: float,
) -> NDArray[np.uint8]:
    """Mask (H,W), 0 or 255, of the largest regions in which ``image`` (H,W,3) RGB differs.

    Distances are taken in CIELAB after a median filter. A pixel differs beyond ``threshold``, or
    beyond ``noise_factor`` standard deviations of the noise, whichever is more; the noise is estimated
    from the median distance, as a person fills less than half of a crop. Small specks go, small gaps
    close, and parts under a tenth of the largest are dropped. Pixels that are not ``valid`` are 0.
    """
    difference = _lab(image) - _lab(background)
    lightness = difference[..., 0]
    difference[..., 0] = np.where(lightness < 0, SHADOW_WEIGHT * lightness, lightness)
    distance = np.sqrt(np.square(difference).sum(-1))
    noise = float(np.median(distance if valid is None else distance[valid])) / _MEDIAN_OF_CHI3
    mask = (distance > max(threshold, noise_factor * noise)).astype(np.uint8)
    if valid is not None:
        mask &= valid
    side = 1 + 2 * round(max(image.shape[:2]) / 128)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(side)), np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(2 * side + 1)), np.uint8)
    return 255 * _large_parts(mask)


def _lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    # A median keeps edges where they are; a mean would let the mask grow by a pixel all round.
    smooth = cv2.medianBlur(image, 3).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB), np.float32)


def _disc(side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _large_parts(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = areas >= _SMALLEST_PART * areas[1:].max()
    keep[0] = False
    return keep[labels].astype(np.uint8)
