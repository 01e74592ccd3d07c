"""The reduced body has the whole body's joints, and their gradients."""

import torch
from pytorch3d.transforms import random_rotations

from capsule_body import capsule_body
from geobody.body.joints_only import joints_only
from geobody.body.model import BodyModel


def test_joints_are_those_of_the_whole_body_in_any_pose_and_shape():
    arrays = capsule_body()
    whole = BodyModel(arrays=arrays, dtype=torch.float64)
    reduced = BodyModel(arrays=joints_only(arrays), dtype=torch.float64)
    assert reduced.num_vertices < 0.7 * whole.num_vertices
    torch.manual_seed(0)
    turned = random_rotations(5 * 24, dtype=torch.float64).unflatten(0, (5, 24))
    betas = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    gradients = []
    outputs = []
    for body in (whole, reduced):
        out = body(
            betas=betas, body_pose=turned[:, 1:], global_orient=turned[:, 0], transl=torch.ones(5, 3).double()
        )
        outputs.append(out)
        gradients.append(torch.autograd.grad(out.joints_h36m.square().sum(), betas)[0])
    assert torch.allclose(outputs[0].joints_h36m, outputs[1].joints_h36m, atol=1e-12)
    assert torch.allclose(outputs[0].joints, outputs[1].joints, atol=1e-12)
    assert torch.allclose(*gradients, atol=1e-9)
