"""Rasters through PyTorch3D, for GPUs: the same gradient as DEODR's, from distances to the outline.

One pass without blur says what is covered. A second, of the faces along the outline alone, says which
of them each pixel nearby is closest to; over all faces, the many small ones inside would fill the few
places that PyTorch3D keeps per pixel. The distance itself is measured here: PyTorch3D's own gradient
adds up in no fixed order on a GPU, which a reproducible training forbids.
"""

import torch
from torch import Tensor

from geobody.errors import ParamsError

FACES_PER_PIXEL = 8
"""Faces along the outline kept per pixel."""


def raster(
    *, xy: Tensor, depths: Tensor, faces: Tensor, front: Tensor, outline: Tensor, size_px: int, fade_px: float
) -> Tensor:
    """Images (B,S,S): 1 where covered, with the gradient of a fade outside, as DEODR's.

    Raises ParamsError when PyTorch3D's compiled part cannot be loaded.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise ParamsError(
            f"params.yaml: smpl_regressor.backend: 'pytorch3d': its compiled part does not load beside torch "
            f"{torch.__version__} ({str(error).splitlines()[0]}); use deodr, which needs no such part"
        ) from error
    if not bool(front.any()):  # PyTorch3D makes an empty batch of meshes without a face
        return xy.new_zeros(len(xy), size_px, size_px) + 0.0 * xy.sum()
    # PyTorch3D's normalised coordinates run left and up, over [-1, 1] for the whole image.
    ndc = 1.0 - (2.0 * xy + 1.0) / size_px
    points = torch.cat((ndc, depths[..., None]), dim=2).float()  # its kernels know no float64
    fade_ndc = 2.0 * fade_px / size_px
    with torch.no_grad():
        whole = Meshes(verts=list(points), faces=[faces[shown] for shown in front])
        nearest = rasterize_meshes(whole, image_size=size_px, faces_per_pixel=1, perspective_correct=False)[0]
        inside = nearest[..., 0] >= 0
        rim = Meshes(verts=list(points), faces=[faces[edges.any(dim=1)] for edges in outline])
        nearest, _, _, squared = rasterize_meshes(
            rim, image_size=size_px, blur_radius=fade_ndc**2, faces_per_pixel=FACES_PER_PIXEL,
            perspective_correct=False,
        )  # fmt: skip
        closest = squared.masked_fill(nearest < 0, torch.inf).argmin(dim=3, keepdim=True)
        face = nearest.gather(3, closest)[..., 0]
        image, row, column = ((face >= 0) & ~inside).nonzero(as_tuple=True)
        corners = rim.faces_packed()[face[image, row, column]]  # of vertices counted through the batch
    pixels = torch.stack((column, row), dim=1).to(xy.dtype)
    fading = (1.0 - _distance_to_triangle(pixels, xy.flatten(0, 1)[corners]) / fade_px).clamp_min(0.0)
    covered = inside.to(xy.dtype)
    # The fade counts in the gradient alone: adding and taking it away leaves the values.
    return covered.index_put((image, row, column), fading - fading.detach())


def _distance_to_triangle(points: Tensor, triangles: Tensor) -> Tensor:
    """Distance (P,) of points (P,2) to triangles (P,3,2) that they lie outside of."""
    along = triangles.roll(-1, dims=1) - triangles
    offset = points[:, None] - triangles
    share = (offset * along).sum(dim=2) / along.square().sum(dim=2).clamp_min(1e-12)
    gap = offset - share.clamp(0.0, 1.0)[..., None] * along
    return gap.square().sum(dim=2).amin(dim=1).clamp_min(1e-12).sqrt()
