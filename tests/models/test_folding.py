"""A network whose batch norms are folded computes what it computed."""

import pytest
import torch
from torch import nn

from geobody.models.encoder_decoder import ARMS, make_encoder_decoder
from geobody.models.folding import fold_batch_norms


def trained(network: nn.Module) -> nn.Module:
    """In eval mode, with statistics and scales far from where they start."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.weight, 0.5, 1.5), (module.running_var, 0.2, 3.0)):
                nn.init.uniform_(values, low, high)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values)
    return network.eval()


@pytest.mark.parametrize("arm", ARMS)
@torch.no_grad()
def test_an_arm_encodes_alike(arm: str) -> None:
    torch.manual_seed(0)
    network = trained(make_encoder_decoder(arm=arm, crop_size_px=32, track="rgb"))
    images = torch.rand(3, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found_all, expected_all = (x.encode(images) for x in (fold_batch_norms(network), network))
    assert (found_all.heat is None) == (expected_all.heat is None) == (arm == "thesis")
    for found, expected in zip(found_all, expected_all, strict=True):
        if expected is None:
            continue
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def test_what_directly_follows_a_convolution_is_folded_and_nothing_else() -> None:
    torch.manual_seed(0)
    chain = trained(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    )
    folded = fold_batch_norms(chain)
    kinds = [type(module) for module in folded]
    assert kinds == [nn.Conv2d, nn.Identity, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(folded(images), chain(images), rtol=1e-4, atol=1e-4)
