import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from geobody.errors import DataError
from geobody.training.checkpoint import Checkpoints, TrainingState, load_weights, save_weights


def test_weights_and_config_come_back(tmp_path):
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "net.safetensors", net, {"width": 4, "act": "relu"})
    state, config = load_weights(tmp_path / "net.safetensors")
    assert config == {"width": 4, "act": "relu"}
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_same_weights_same_bytes(tmp_path):
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    save_weights(tmp_path / "one.safetensors", state, {"x": 1, "y": 2})
    save_weights(tmp_path / "two.safetensors", dict(reversed(state.items())), {"y": 2, "x": 1})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "no config"])
def test_a_broken_file_is_named_with_its_cure(tmp_path, damage):
    path = tmp_path / "net.safetensors"
    save_weights(path, {"a": torch.ones(100)}, {})
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "text":
        path.write_text("no tensors here")
    else:
        save_file({"a": torch.ones(1)}, path)
    with pytest.raises(DataError) as error:
        load_weights(path, cure="make it with: dvc repro encdec")
    assert str(error.value).startswith(f"{path}: ") and str(error.value).endswith("dvc repro encdec")
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / "state.safetensors")
    small, large = nn.Linear(2, 2), nn.Linear(3, 2)
    state = TrainingState(step=3, curves="", sums={})
    checkpoints.save(state, modules={"net": small}, optimizers={"net": torch.optim.AdamW(small.parameters())})
    with pytest.raises(DataError, match="checkpoint of another training; delete it"):
        checkpoints.load(modules={"net": large}, optimizers={"net": torch.optim.AdamW(large.parameters())})
