"""Rasters through DEODR's C++ core: gradients come from the outline that it draws fading outwards."""

from typing import Any

import numpy as np
import torch
from deodr import differentiable_renderer_cython
from deodr.differentiable_renderer import Scene2DBase
from torch import Tensor


def raster(
    *, xy: Tensor, depths: Tensor, faces: Tensor, front: Tensor, outline: Tensor, size_px: int, fade_px: float
) -> Tensor:
    """Images (B,S,S), float64: 1 where a pixel's centre is covered, else 0; the gradient is a fade's.

    ``xy`` (B,V,2) px, ``depths`` (B,V), ``faces`` (F,3), ``front`` (B,F), ``outline`` (B,F,3).
    The gradient is that of an outline that falls linearly from 1 to 0 over ``fade_px`` outside.
    """
    return _Raster.apply(xy, depths, faces, front, outline, size_px, fade_px).to(xy.device)


class _Raster(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        xy: Tensor,
        depths: Tensor,
        faces: Tensor,
        front: Tensor,
        outline: Tensor,
        size: int,
        fade: float,
    ) -> Tensor:
        points = xy.detach().to("cpu", torch.float64).numpy()
        z = depths.detach().to("cpu", torch.float64).numpy()
        triangles = faces.to("cpu").numpy().astype(np.uint32)
        shown, edges = front.to("cpu").numpy(), outline.to("cpu").numpy()
        # Hidden faces are left out here, so DEODR's own culling has nothing to decide.
        scenes = [
            _scene(points[i], z[i], triangles[shown[i]], edges[i][shown[i]], size) for i in range(len(points))
        ]
        images = np.zeros((len(points), size, size, 1))
        buffers = np.zeros((len(points), size, size))
        for scene, image, buffer in zip(scenes, images, buffers, strict=True):
            differentiable_renderer_cython.renderSceneCpp(scene, fade, image, buffer, check_valid=False)
        ctx.scenes, ctx.images, ctx.buffers, ctx.fade = scenes, images, buffers, fade
        ctx.like = (xy.dtype, xy.device)
        # Overdrawn edges leave no depth, so a finite depth marks the mesh itself.
        return torch.from_numpy(np.isfinite(buffers).astype(np.float64))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_images = grad_outputs[0].to("cpu", torch.float64).numpy()
        grads = np.zeros((len(ctx.scenes), *ctx.scenes[0].ij.shape))
        for i, scene in enumerate(ctx.scenes):
            scene.uv_b, scene.ij_b = np.zeros_like(scene.uv), np.zeros_like(scene.ij)
            scene.shade_b, scene.colors_b = np.zeros_like(scene.shade), np.zeros_like(scene.colors)
            scene.texture_b = scene.texture
            # DEODR undoes its blending in place, so image and gradient are given as copies.
            differentiable_renderer_cython.renderSceneBCpp(
                scene, ctx.fade, ctx.images[i].copy(), ctx.buffers[i], grad_images[i][..., None].copy(),
                check_valid=False,
            )  # fmt: skip
            grads[i] = scene.ij_b
        dtype, device = ctx.like
        return torch.from_numpy(grads).to(device, dtype), None, None, None, None, None, None


def _scene(
    xy: np.ndarray, depths: np.ndarray, faces: np.ndarray, outline: np.ndarray, size: int
) -> Scene2DBase:
    no_faces = np.zeros(len(faces), dtype=bool)
    return Scene2DBase(
        faces=faces, faces_uv=faces, ij=xy, depths=depths, textured=no_faces, uv=np.zeros((len(xy), 2)),
        shade=np.zeros(len(xy)), colors=np.ones((len(xy), 1)), shaded=no_faces, edgeflags=outline,
        height=size, width=size, nb_colors=1, texture=np.zeros((0, 0)), background_color=np.zeros(1),
        clockwise=False, backface_culling=True,
    )  # fmt: skip
