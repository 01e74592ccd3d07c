"""A step of poses: the same batch and loss for whatever finds poses, and what it may read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.pose_batches import Augmentation, Taught, augmented, labelled_joints, load_pose_batch
from geobody.models.pose_cnn import PoseCNN
from geobody.models.pose_loss import pose_loss
from geobody.models.pose_network import PoseNetwork
from geobody.models.pose_step import pose_step
from geobody.training.loop import Batch

CPU = torch.device("cpu")
FULL = Augmentation(
    strength=1.0, background_share=0.5, turn_deg=20.0, shift_std=0.05, zoom_std=0.1, mirror=True
)
PLAIN = Augmentation(
    strength=0.0, background_share=0.0, turn_deg=0.0, shift_std=0.0, zoom_std=0.0, mirror=False
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropShards:
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("step") / "crops", subjects=(1, 5)))


class Recorder:
    """Stands where a network stands and keeps what it is given."""

    def __init__(self, track: str = "rgb") -> None:
        self.track = track

    def network_input(self, images: torch.Tensor, masks_diff: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, masks_diff], 1)

    def seen(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.shown = images
        generator = torch.Generator().manual_seed(1)
        return torch.zeros(len(images), 17, 3), torch.randn(len(images), 20, 64, generator=generator)


def batch(rows: np.ndarray) -> Batch:
    return Batch(rows, 0, "any", torch.Generator().manual_seed(3))


def taught(crops: CropShards, rows: np.ndarray, augmentation: Augmentation, *, track: str = "rgb") -> Taught:
    loaded = load_pose_batch(crops, rows, labelled_joints(crops, rows)[rows], track=track, device=CPU)
    return augmented(loaded, augmentation, generator=torch.Generator().manual_seed(3))


def test_the_loss_is_that_of_the_augmented_batch_in_full_precision(crops: CropShards) -> None:
    rows = crops.rows(subjects=[1])[::3]
    placed_mm = labelled_joints(crops, rows)
    placed_mm[np.setdiff1d(np.arange(len(crops)), rows)] = np.nan  # a leak would make the loss NaN
    network = Recorder()
    step = pose_step(network, crops, placed_mm, augmentation=FULL, heat_weight=2.0, device=CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = step(batch(rows))
    expected = taught(crops, rows, FULL)
    assert torch.equal(network.shown, torch.cat([expected.images, expected.masks_diff], 1))
    assert network.shown.is_contiguous(memory_format=torch.channels_last)
    joints_mm, heat = network.seen(network.shown)
    terms = pose_loss(joints_mm, heat, true_mm=expected.joints_mm, places=expected.places, heat_weight=2.0)
    assert found.keys() == terms.keys() == {"total", "heat", "mpjpe_17_mm"}
    assert all(torch.equal(found[name], terms[name]) for name in terms)


def test_the_true_outline_changes_nothing_that_the_track_masked_sees(
    crops: CropShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = crops.rows(subjects=[5])[:4]
    others = replace(crops, masks=255 - np.array(crops.masks))

    def shown(shards: CropShards, track: str) -> torch.Tensor:
        network = Recorder(track)
        pose_step(
            network, shards, labelled_joints(crops, rows), augmentation=FULL, heat_weight=1.0, device=CPU
        )(batch(rows))
        return network.shown

    assert torch.equal(shown(crops, "masked"), shown(others, "masked"))
    assert not torch.equal(shown(crops, "rgb"), shown(others, "rgb"))


@pytest.mark.parametrize("track", ["rgb", "masked"])
def test_arms_and_controls_are_shown_the_same(
    crops: CropShards, track: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = crops.rows(subjects=[5])[:4]
    networks = (
        PoseCNN(crop_size_px=32, track=track),
        PoseNetwork(make_encoder_decoder(arm="rhodin", crop_size_px=32, track=track)),
    )
    shown = []
    for network in networks:
        seen = network.seen
        monkeypatch.setattr(
            network, "seen", lambda images, seen=seen: (shown.append(images), seen(images))[1]
        )
        step = pose_step(
            network, crops, labelled_joints(crops, rows), augmentation=PLAIN, heat_weight=1.0, device=CPU
        )
        step(batch(rows))["total"].backward()
        assert any(parameter.grad is not None for parameter in network.parameters())
    expected = taught(crops, rows, PLAIN)
    picture = expected.images * expected.masks_diff if track == "masked" else expected.images
    assert torch.equal(shown[0], picture)
    assert torch.equal(shown[1], picture)
