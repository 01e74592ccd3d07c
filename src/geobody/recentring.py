"""Where a person's root is in a crop, from joints that a network finds both in the picture and in space.

A box or a mask tells only about where the hip is and about how far away. The heat maps of a tuned encoder say where
its first points, the joints, are in the picture; the pose head says in mm how they lie around the root. One
translation of these joints projects them onto those places: it is the root's place, distance included.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from geobody.models.point_fields import cell_centres

LARGEST_MISFIT: Final = 0.1
"""Of the crop's side. Joints and their own heat maps fit within 0.03, heat maps that were told of no joints not within
0.4 (`docs/experiments.md`)."""
LARGEST_CHANGE: Final = 2.0
"""Of the distance that the first crop was cut for. A box of a whole person is not as far off as that."""
LARGEST_OFFSET_MM: Final = 80.0
LARGEST_ZOOM: Final = 1.15
"""How far from a crop's middle, and from the distance that it says, a root lies at most if the crop is like those of
training: 45 mm and 1.10 in 48 such crops of training people, 200 mm and 1.21 (medians) in their whole frames."""


class Roots(NamedTuple):
    """``places_mm`` (N,3) in the crop's frame, camera at the origin; ``misfit`` (N,): root mean square distance of the
    projected joints to where they are seen, in sides of the crop; ``change`` (N,): their distance over the expected."""

    places_mm: NDArray[np.float64]
    misfit: NDArray[np.float64]
    change: NDArray[np.float64]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which (N,) are to be trusted: the joints fit, in front of the camera, about as far away as was thought."""
        near, far = 1 / LARGEST_CHANGE, LARGEST_CHANGE
        return (self.misfit < LARGEST_MISFIT) & (near < self.change) & (self.change < far)

    @property
    def misplaced(self) -> NDArray[np.bool_]:
        """Which (N,) are well seen, but not where a crop around a root has it: in its middle, as far as it says."""
        aside = np.linalg.norm(self.places_mm[:, :2], axis=1) > LARGEST_OFFSET_MM
        other = (self.change < 1 / LARGEST_ZOOM) | (self.change > LARGEST_ZOOM)
        return (self.misfit < LARGEST_MISFIT) & (self.change > 0) & (aside | other)


def find_roots(joints_mm: ArrayLike, places: ArrayLike, *, focal: ArrayLike, depth_mm: ArrayLike) -> Roots:
    """Roots of persons with joints (N,J,3) mm around them, crop frame, that are seen at ``places`` (N,J,2).

    Places are x and y in [-1,1] from edge to edge; ``focal`` (N,) is the crop's focal length in its sides, ``depth_mm``
    (N,) the distance that is expected. Least squares of f (X + t_x) = u (Z + t_z), and alike for y: both are linear
    in the translation t (as linear triangulation, Hartley and Zisserman, chapter 12, for a point that is a body).
    """
    joints = np.asarray(joints_mm, np.float64)
    focal = np.asarray(focal, np.float64)[:, None, None]
    slopes = np.asarray(places, np.float64) / (2.0 * focal)  # (N,J,2): x/z and y/z of the rays
    rows = np.zeros((*slopes.shape, 3))
    rows[..., 0, 0] = rows[..., 1, 1] = 1.0
    rows[..., 2] = -slopes
    right = slopes * joints[..., 2:] - joints[..., :2]
    A, b = rows.reshape(len(joints), -1, 3), right.reshape(len(joints), -1)
    roots = (np.linalg.pinv(A) @ b[..., None])[..., 0]
    placed = joints + roots[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        beside = focal * (placed[..., :2] / placed[..., 2:] - slopes)
    misfit = np.sqrt(np.square(beside).sum(-1).mean(-1))
    change = roots[:, 2] / np.asarray(depth_mm, np.float64)
    return Roots(roots, np.nan_to_num(misfit, nan=np.inf), change)


def heat_places(heat: Tensor) -> NDArray[np.float32]:
    """Places (N,J,2), x and y in [-1,1] from edge to edge, of points with the logits (N,J,s*s) of ``Latent.heat``."""
    side = math.isqrt(heat.shape[-1])
    return (heat.softmax(-1) @ cell_centres(side).to(heat)).cpu().numpy()
