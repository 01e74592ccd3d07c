import pytest
import torch

from geobody.errors import ParamsError
from geobody.training.determinism import derived_seed, make_fabric, seeded


def test_seeded_block_repeats_and_leaves_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(0, "a"):
        first = torch.rand(3)
    with seeded(0, "a"):
        second = torch.rand(3)
    with seeded(0, "b"):
        other = torch.rand(3)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.rand(3), expected)


def test_derived_seeds_do_not_collide():
    seeds = {derived_seed(s, name, step) for s in range(20) for name in ("a", "b") for step in range(200)}
    assert len(seeds) == 20 * 2 * 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_derived_seed_uses_splitmix64():
    """The generator's published first output from state 0, halved."""
    assert derived_seed(0) == 0xE220A8397B1DCDAF >> 1


def test_fabric_pins_threads_and_algorithms():
    fabric = make_fabric(precision="32-true", threads=1, device="cpu")
    assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
    assert fabric.device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8", "device": "cpu"}, "training.precision: value 'fp8'"),
        ({"precision": "32-true", "device": "abacus"}, "training.device: value 'abacus'"),
    ],
)
def test_unknown_names_are_refused(options, message):
    with pytest.raises(ParamsError, match=message):
        make_fabric(threads=1, **options)
