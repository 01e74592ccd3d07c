from pathlib import Path

import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.conventions import N_BETAS
from geobody.data.crops import CropShards
from geobody.metrics import pose_metrics
from geobody.models.controls import save_controls
from geobody.models.mean_body import MeanBody
from geobody.models.pose_cnn import PoseCNN
from geobody.models.pose_network import predict_rows
from tools.compare_fits import ROOT, WAYS, compare


@pytest.fixture(scope="module")
def cnn() -> PoseCNN:
    torch.manual_seed(0)
    return PoseCNN(crop_size_px=32).eval()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, cnn: PoseCNN) -> Path:
    """Shards, and an untrained CNN as the control."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "data/models").mkdir(parents=True)
    write_fake_shards(folder / "data/crops", frames=3)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    body = MeanBody(
        np.zeros(N_BETAS, np.float32), np.zeros((23, 3, 3), np.float32), np.eye(3, dtype=np.float32)
    )
    save_controls(
        folder / "data/models/controls.safetensors",
        cnns={"cnn_s1": cnn.state_dict()},
        cnn_config={"crop_size_px": 32},
        pose_mm=np.zeros((17, 3), np.float32),
        body=body,
    )
    return folder


def test_each_way_has_the_errors_of_what_it_makes_of_the_same_predictions(
    repository: Path, cnn: PoseCNN
) -> None:
    found = compare(repository, subject=6)
    assert list(found) == ["one view", *WAYS]
    crops = CropShards.open(repository / "data/crops")
    rows = crops.views(split="train", subjects=[6])[:, 0]
    one_view = predict_rows(cnn, crops, rows, heat_maps=False, device=torch.device("cpu")).joints_mm.numpy()
    errors = pose_metrics(one_view, crops.table["joints_mm"][rows])
    assert found["one view"]["p_mpjpe_17_mm"] == pytest.approx(errors["p_mpjpe_17_mm"].mean(), rel=1e-3)
    assert len({round(way["mpjpe_17_mm"], 3) for way in found.values()}) == len(found)
    assert found["fused, fitted to silhouettes"]["mpjpe_17_mm"] < found["fused"]["mpjpe_17_mm"]
