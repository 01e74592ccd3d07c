"""A training stage in two processes: the stage starts them, or torchrun; beside the same in one."""

import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from geobody.data.crops import CropShards
from geobody.data.labels import split_labels
from geobody.metrics import n_mpjpe
from geobody.models.encoder_decoder import embed, load_encoder_decoder
from geobody.models.pose_head import predict_pose
from pipeline_types import Copy, Run

pytestmark = pytest.mark.slow

TOLERANCE_MM = 5.0
"""Two processes draw otherwise than one does; three seeds of one process differ by 2.4 mm."""

TORCHRUN = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
WRITTEN = (
    "data/models/pose_head.safetensors",
    "data/models/encoder.safetensors",
    "metrics/curves/pose_head.csv",
)


def held_out_mm(repository: Path) -> float:
    """N-MPJPE on the labelled subject's held-out blocks, of the head on its encoder."""
    shards = CropShards.open(repository / "data/crops")
    rows = split_labels(shards.table, subjects=[1]).held_out
    l3d, _ = embed(load_encoder_decoder(repository / "data/models/encoder.safetensors"), shards, rows)
    predicted = predict_pose(repository / "data/models/pose_head.safetensors", l3d)
    return float(n_mpjpe(predicted, shards.table["joints_mm"][rows]).mean())


@pytest.mark.parametrize("kind", ["mlp", "semi_supervised"])
def test_pose_head_in_two_processes(kind: str, copy_of_tiny: Copy, python_m: Run):
    repository = copy_of_tiny()
    yaml = YAML()
    params = yaml.load(repository / "params.yaml")
    params["pose_head"]["kind"] = kind
    yaml.dump(params, repository / "params.yaml")
    done = python_m(repository, "stages.pose_head")
    assert done.returncode == 0, done.stderr
    alone, one = held_out_mm(repository), [(repository / name).read_bytes() for name in WRITTEN]
    params["training"]["processes"] = 2
    yaml.dump(params, repository / "params.yaml")

    refused = python_m(repository, "stages.pose_head", RANK="0", WORLD_SIZE="3")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "training.processes" in refused.stderr
    assert [(repository / name).read_bytes() for name in WRITTEN] == one

    done = python_m(repository, "stages.pose_head")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pose_head: ") == 1  # one process publishes and reports
    two = [(repository / name).read_bytes() for name in WRITTEN]
    assert two[0] != one[0]
    if kind == "mlp":  # the other augments: each process draws its own, and sixty steps leave much to chance
        assert held_out_mm(repository) == pytest.approx(alone, abs=TOLERANCE_MM)

    done = python_m(repository, "stages.pose_head", GEOBODY_LAUNCHER=TORCHRUN)
    assert done.returncode == 0, done.stderr
    assert [(repository / name).read_bytes() for name in WRITTEN] == two
    assert not list(repository.glob(".scratch/pose_head-*"))
