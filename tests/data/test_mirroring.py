import numpy as np
import torch

from geobody.conventions import H36M_JOINTS
from geobody.data.mirroring import mirror_images, mirror_joints

BATCH, SIZE = 3, 33


def test_a_mirrored_joint_is_seen_where_the_mirrored_image_shows_it() -> None:
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand(BATCH, 17, 3, generator=generator) * 1600 - 800
    depth, focal = 4500.0, SIZE * 4500.0 / 2000
    which = torch.tensor([True, False, True])
    mirrored = mirror_joints(joints, which)
    for i in range(BATCH):
        for name, point, other in zip(H36M_JOINTS, joints[i], mirrored[i], strict=True):
            if not which[i]:
                torch.testing.assert_close(point, other)
                continue
            exchanged = {"left": "right", "right": "left"}.get(name.split("_")[0])
            twin = H36M_JOINTS.index(f"{exchanged}_{name.split('_', 1)[1]}" if exchanged else name)
            x = focal * point[0] / (depth + point[2]) + (SIZE - 1) / 2
            x_twin = focal * mirrored[i, twin, 0] / (depth + mirrored[i, twin, 2]) + (SIZE - 1) / 2
            torch.testing.assert_close(x_twin, SIZE - 1 - x)
            torch.testing.assert_close(point[1:], mirrored[i, twin, 1:])


def test_only_chosen_images_are_mirrored_and_twice_is_none() -> None:
    images = torch.from_numpy(np.arange(BATCH * 3 * SIZE * SIZE, dtype=np.float32)).view(BATCH, 3, SIZE, SIZE)
    which = torch.tensor([True, False, False])
    mirrored = mirror_images(images, which)
    torch.testing.assert_close(mirrored[1:], images[1:])
    torch.testing.assert_close(mirrored[0, :, :, 0], images[0, :, :, -1])
    torch.testing.assert_close(mirror_images(mirrored, which), images)
    joints = torch.randn(BATCH, 17, 3)
    torch.testing.assert_close(mirror_joints(mirror_joints(joints, which), which), joints)
