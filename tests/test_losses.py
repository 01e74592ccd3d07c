import math

import pytest
import torch

from geobody.errors import DataError, ParamsError
from geobody.losses import make_feature_loss, mask_bce, mask_dice, multi_scale_gradient, person_weighted_mse
from geobody.models.resnet18 import ResNet18Features
from geobody.training.checkpoint import save_weights


def images(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_person_weighted_mse_by_hand():
    """One person pixel off by 1 in one channel, one background pixel off by 0.5 in all; four pixels."""
    target = torch.zeros(1, 3, 2, 2)
    predicted = target.clone()
    predicted[0, 0, 0, 0], predicted[0, :, 1, 1] = 1.0, 0.5
    masks = torch.zeros(1, 1, 2, 2)
    masks[0, 0, 0, 0] = 1.0
    expected = (1.1 * 1 / 3 + 0.1 * 0.25) / (1.1 + 3 * 0.1)
    assert person_weighted_mse(predicted, target, masks, background_weight=0.1).item() == pytest.approx(
        expected
    )


def test_gradient_loss_ignores_brightness_and_sees_edges():
    target = images()
    assert multi_scale_gradient(target + 0.3, target).item() == pytest.approx(0, abs=1e-6)
    blurred = torch.nn.functional.avg_pool2d(target, 3, 1, 1)
    assert multi_scale_gradient(blurred, target) > 0.1


def test_gradient_loss_of_a_ramp_by_hand():
    """A slope of s a pixel is 2 s, 4 s a pixel at the halved sizes; only one of two axes has it."""
    ramp = (0.01 * torch.arange(16.0)).expand(1, 3, 16, 16)
    expected = 0.01 * (1 + 2 + 4) / 6
    assert multi_scale_gradient(ramp, torch.zeros_like(ramp)).item() == pytest.approx(expected, rel=1e-5)


def test_dice_is_zero_for_equal_soft_masks_and_one_for_disjoint():
    soft = images()[:, :1]
    assert mask_dice(soft, soft).item() == pytest.approx(0, abs=1e-6)
    left = torch.zeros(1, 1, 4, 4)
    left[..., :2] = 1
    assert mask_dice(left, 1 - left).item() == pytest.approx(1, abs=1e-6)
    half = left.clone()
    half[..., 2:, :] = 0  # 4 of 8 pixels: 1 - 2*4/(4+8)
    assert mask_dice(half, left).item() == pytest.approx(1 / 3, abs=1e-6)


def test_dice_counts_small_and_large_persons_alike():
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, :, :2, :2], masks[1] = 1, 1
    assert mask_dice(torch.zeros_like(masks), masks) > 0.99
    only_large = torch.zeros_like(masks)
    only_large[1] = 1
    assert mask_dice(only_large, masks).item() == pytest.approx(0.5, abs=0.01)


def test_bce_by_hand():
    masks = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert mask_bce(torch.tensor([2.0, -1.0]).view(1, 1, 1, 2), masks).item() == pytest.approx(expected)


def test_gradients_are_right():
    predicted, target = (images(seed).double()[:1, :, :8, :8] for seed in (1, 2))
    masks = images(3).double()[:1, :1, :8, :8]
    predicted.requires_grad_()
    for loss in (
        lambda x: multi_scale_gradient(x, target),
        lambda x: person_weighted_mse(x, target, masks, background_weight=0.1),
        lambda x: mask_dice(x[:, :1], masks),
    ):
        assert torch.autograd.gradcheck(loss, predicted)


def test_feature_loss_by_name_never_falls_back(tmp_path):
    assert make_feature_loss("gradient", weights=tmp_path / "none") is multi_scale_gradient
    with pytest.raises(ParamsError, match=r"encdec.feature_loss: value 'vgg': one of gradient, resnet18"):
        make_feature_loss("vgg", weights=tmp_path / "none")
    with pytest.raises(DataError, match=r"none: is missing.*use encdec.feature_loss: gradient"):
        make_feature_loss("resnet18", weights=tmp_path / "none")
    save_weights(tmp_path / "part", {"conv1.weight": torch.zeros(64, 3, 7, 7)}, {})
    with pytest.raises(DataError, match=r"part: lacks \S+ of a ResNet-18"):
        make_feature_loss("resnet18", weights=tmp_path / "part")


def test_resnet_features_are_frozen_normalised_and_in_eval_mode(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet18Features()
    save_weights(tmp_path / "resnet18", network, {})
    loss = make_feature_loss("resnet18", weights=tmp_path / "resnet18")
    predicted = images(1).repeat(1, 1, 4, 4).requires_grad_()
    target = images(2).repeat(1, 1, 4, 4)
    network.eval()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalised = [(x - mean) / std for x in (predicted, target)]
    network.mean.zero_(), network.std.fill_(1)
    expected = sum((a - b).square().mean() for a, b in zip(*map(network, normalised), strict=True)) / 3
    torch.testing.assert_close(loss(predicted, target), expected)
    loss(predicted, target).backward()
    assert predicted.grad.abs().sum() > 0
    assert loss(target, target).item() == 0
