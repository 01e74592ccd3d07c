"""Antialiased silhouettes of meshes, differentiable in the vertices, through one interface.

A mesh is drawn on a grid ``supersample`` times finer than the image, which is then averaged: the
values are coverage by samples. Their gradient is that of an outline which fades outside over
FADE_FINE_PX, as in DEODR's discontinuity-edge overdraw (de La Gorce, Paragios, Fleet 2008). The fade
itself is kept out of the values: being outside alone, it would make limbs too fat, by 21 % of a
thin person's area at 64 px without supersampling.

Two backends draw the same picture: ``deodr`` on the CPU, whose cost is per triangle, and
``pytorch3d``, which runs on the GPU too.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Backend = Literal["deodr", "pytorch3d"]

NEAR_MM = 100.0
"""Faces with a vertex nearer to the camera's plane than this are not drawn."""

FADE_FINE_PX = 1.5
"""Width over which an outline fades for its gradient, in pixels of the fine grid."""

_FAR_OUT = 64.0
"""Projections are held within this many image sides, where the rasterisers' integers are safe."""


class SilhouetteRenderer:
    """Draws silhouettes of one mesh topology; what depends on the faces alone is kept.

    ``faces`` (F,3) must be oriented outwards (counter-clockwise seen from outside), as SMPL's are.
    """

    def __init__(
        self,
        *,
        faces: Tensor | np.ndarray,
        size_px: int,
        backend: Backend = "deodr",
        supersample: int = 4,
    ) -> None:
        if backend not in ("deodr", "pytorch3d"):
            raise ValueError(f"backend must be 'deodr' or 'pytorch3d', not {backend!r}")
        if size_px < 1 or supersample < 1:
            raise ValueError(f"size_px and supersample must be at least 1, not {size_px} and {supersample}")
        self.faces = torch.as_tensor(np.asarray(faces, dtype=np.int64))
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"faces must be (F,3), not {tuple(self.faces.shape)}")
        self.neighbours = torch.as_tensor(face_neighbours(self.faces.numpy()))
        self.size_px = size_px
        self.backend = backend
        self.supersample = supersample

    def __call__(self, vertices: Tensor, focal_px: Tensor) -> Tensor:
        """Silhouettes (B,S,S) in [0,1] of ``vertices`` (B,V,3), mm in the crop camera's frame."""
        if vertices.ndim != 3 or vertices.shape[2] != 3:
            raise ValueError(f"vertices must be (B,V,3), not {tuple(vertices.shape)}")
        if focal_px.shape != vertices.shape[:1]:
            raise ValueError(f"focal_px must be ({vertices.shape[0]},), not {tuple(focal_px.shape)}")
        if not bool(torch.isfinite(vertices).all()):
            raise ValueError("vertices hold NaN or infinity: a silhouette of them is undefined")
        if vertices.shape[0] == 0:
            return vertices.new_zeros(0, self.size_px, self.size_px)
        xy = project_px(vertices, focal_px, size_px=self.size_px)
        limit = _FAR_OUT * self.size_px
        fine_xy = (self.supersample * (xy + 0.5) - 0.5).clamp(-limit, limit)
        depths = vertices[..., 2].detach()
        faces, neighbours = self.faces.to(vertices.device), self.neighbours.to(vertices.device)
        with torch.no_grad():
            front = front_faces(fine_xy, depths, faces)
            outline = outline_edges(front, neighbours)
        fine_size = self.size_px * self.supersample
        if self.backend == "deodr":
            from geobody.render.deodr_backend import raster
        else:
            from geobody.render.pytorch3d_backend import raster
        fine = raster(
            xy=fine_xy, depths=depths, faces=faces, front=front, outline=outline,
            size_px=fine_size, fade_px=FADE_FINE_PX,
        )  # fmt: skip
        return torch.nn.functional.avg_pool2d(fine[:, None], self.supersample)[:, 0].to(vertices.dtype)


def silhouettes(
    vertices: Tensor,
    faces: Tensor | np.ndarray,
    focal_px: Tensor,
    size_px: int,
    backend: Backend = "deodr",
    *,
    supersample: int = 4,
) -> Tensor:
    """Silhouettes (B,S,S) in [0,1] of ``vertices`` (B,V,3), mm in the crop camera's frame.

    ``focal_px`` (B,); principal point at ((S-1)/2, (S-1)/2), pixel centres at integers. Raises
    ValueError on wrong shapes or non-finite vertices. For many calls keep a SilhouetteRenderer.
    """
    renderer = SilhouetteRenderer(faces=faces, size_px=size_px, backend=backend, supersample=supersample)
    return renderer(vertices, focal_px)


def project_px(points_mm: Tensor, focal_px: Tensor, *, size_px: int) -> Tensor:
    """Pixel coordinates (B,N,2) of ``points_mm`` (B,N,3) in the crop frame; ``focal_px`` (B,).

    Points nearer than NEAR_MM are projected as if they lay at that depth: finite, but no image.
    """
    depth = points_mm[..., 2:].clamp_min(NEAR_MM)
    return focal_px[:, None, None] * points_mm[..., :2] / depth + (size_px - 1) / 2


def face_neighbours(faces: np.ndarray) -> np.ndarray:
    """Face across edge k (vertex k to k+1) of each face (F,3), -1 at a border or a bad edge."""
    count = len(faces)
    start = faces.reshape(-1)
    end = np.roll(faces, -1, axis=1).reshape(-1)
    base = np.int64(faces.max(initial=0) + 1)
    forward, backward = start * base + end, end * base + start
    order = np.argsort(forward, kind="stable")
    at = np.minimum(np.searchsorted(forward[order], backward), 3 * count - 1)
    found = order[at]
    return np.where(forward[found] == backward, found // 3, -1).reshape(count, 3)


def front_faces(xy: Tensor, depths: Tensor, faces: Tensor) -> Tensor:
    """Mask (B,F) of faces that look at the camera and lie wholly in front of it."""
    corners = xy[:, faces]  # (B,F,3,2)
    u, w = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    # With y down, an outward face that looks at the camera turns the negative way.
    turned_here = u[..., 0] * w[..., 1] - u[..., 1] * w[..., 0] < 0
    return turned_here & (depths[:, faces] > NEAR_MM).all(dim=-1)


def outline_edges(front: Tensor, neighbours: Tensor) -> Tensor:
    """Mask (B,F,3) of the edges of front faces whose other side is no front face."""
    other = front[:, neighbours.clamp_min(0)] & (neighbours >= 0)
    return front[..., None] & ~other
