"""Rasters through PyTorch3D, for GPUs: the same gradient as DEODR's, from distances to the outline.

One pass without blur says what is covered. A second, of the faces along the outline alone, gives
each pixel nearby its distance to them; over all faces, the many small ones inside would fill the
few places that PyTorch3D keeps per pixel.
"""

import torch
from torch import Tensor

FACES_PER_PIXEL = 8
"""Faces along the outline kept per pixel."""


def raster(
    *, xy: Tensor, depths: Tensor, faces: Tensor, front: Tensor, outline: Tensor, size_px: int, fade_px: float
) -> Tensor:
    """Images (B,S,S), float32: 1 where covered, with the gradient of a fade outside, as DEODR's.

    Raises RuntimeError when PyTorch3D's compiled part cannot be loaded.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise RuntimeError(
            f"PyTorch3D's compiled part does not load beside torch {torch.__version__} ({error}): "
            "use the backend 'deodr', which needs no such part"
        ) from error
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
    away = squared.clamp_min(1e-12).sqrt() / fade_ndc  # (B,S,S,K)
    fading = torch.where((nearest >= 0) & ~inside[..., None], 1.0 - away, 0.0).amax(dim=3)
    return inside.to(fading.dtype) + (fading - fading.detach())
