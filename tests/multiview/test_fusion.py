import torch
from pytorch3d.transforms import random_rotations

from geobody.multiview.fusion import disagreement, fuse_views, to_crops, to_world


def poses(instants: int = 5, cameras: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints (I,17,3) in world axes and rotations (I,C,3,3)."""
    generator = torch.Generator().manual_seed(0)
    joints = 300 * torch.randn(instants, 17, 3, generator=generator)
    torch.manual_seed(0)
    return joints - joints[:, :1], random_rotations(instants * cameras).unflatten(0, (instants, cameras))


def test_views_of_one_pose_fuse_to_it() -> None:
    joints, R = poses()
    seen = to_crops(joints, R)
    torch.testing.assert_close(seen[2, 1, 5], R[2, 1] @ joints[2, 5])
    torch.testing.assert_close(to_world(seen, R)[:, 3], joints, atol=1e-2, rtol=0)
    torch.testing.assert_close(fuse_views(seen, R), joints, atol=1e-2, rtol=0)


def test_one_view_that_is_far_off_moves_the_median_less_than_the_mean() -> None:
    joints, R = poses()
    seen = to_crops(joints, R) + 20 * torch.randn(5, 4, 17, 3, generator=torch.Generator().manual_seed(1))
    seen[:, 2] = seen[:, 2].flip(1)
    mean = to_world(seen, R).mean(1)
    fused = fuse_views(seen, R)
    assert (fused - joints).norm(dim=-1).mean() < 0.5 * (mean - joints).norm(dim=-1).mean()
    by_view = disagreement(to_world(seen, R), fused).mean((0, 2))
    assert by_view.argmax() == 2
