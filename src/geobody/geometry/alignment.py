"""Least-squares alignment of point sets: rotation, and on demand scale, shift and reflection.

Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
Points are (...,J,D), batched by broadcasting; arithmetic is float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """target ~ scale * R source + shift."""

    scale: Array
    """(...)"""
    R: Array
    """(...,D,D)"""
    shift: Array
    """(...,D)"""

    def apply(self, points: ArrayLike) -> Array:
        """Moved points (...,J,D)."""
        turned = np.asarray(points, np.float64) @ np.swapaxes(self.R, -1, -2)
        return self.scale[..., None, None] * turned + self.shift[..., None, :]


def fit_alignment(
    source: ArrayLike, target: ArrayLike, *, scale: bool = True, shift: bool = True, reflection: bool = False
) -> Alignment:
    """The alignment of ``source`` to ``target``, both (...,J,D), with the least sum of squares.

    Without ``reflection`` det R = +1 whatever the points. Points that all coincide give scale 0.
    """
    source, target = (np.asarray(points, np.float64) for points in (source, target))
    source_mean = source.mean(-2) if shift else np.zeros(source.shape[:-2] + source.shape[-1:])
    target_mean = target.mean(-2) if shift else np.zeros(target.shape[:-2] + target.shape[-1:])
    centred = source - source_mean[..., None, :]
    covariance = np.swapaxes(target - target_mean[..., None, :], -1, -2) @ centred
    U, singular, Vt = np.linalg.svd(covariance)
    signs = np.ones_like(singular)
    if not reflection:
        signs[..., -1] = np.where(np.linalg.det(U) * np.linalg.det(Vt) < 0, -1.0, 1.0)
    R = (U * signs[..., None, :]) @ Vt
    size = np.square(centred).sum((-1, -2))
    factor = np.ones_like(singular[..., 0])
    if scale:
        factor = np.divide((singular * signs).sum(-1), size, out=np.zeros_like(factor), where=size > 0)
    moved = factor[..., None] * np.einsum("...ij,...j->...i", R, source_mean)
    return Alignment(factor, R, target_mean - moved)


def align(
    source: ArrayLike, target: ArrayLike, *, scale: bool = True, shift: bool = True, reflection: bool = False
) -> Array:
    """``source`` (...,J,D) after `fit_alignment` to ``target``."""
    return fit_alignment(source, target, scale=scale, shift=shift, reflection=reflection).apply(source)


def best_scale(source: ArrayLike, target: ArrayLike) -> Array:
    """The factor (...) on ``source`` (...,J,D) with the least squares: <source,target> / <source,source>.

    0 where ``source`` is zero.
    """
    source, target = (np.asarray(points, np.float64) for points in (source, target))
    size = np.square(source).sum((-1, -2))
    return np.divide((source * target).sum((-1, -2)), size, out=np.zeros_like(size), where=size > 0)
