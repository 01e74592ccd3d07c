"""Networks with random weights and a body of capsules, as files: what `Predictor` opens, in milliseconds."""

from pathlib import Path

import numpy as np
import torch

from capsule_body import write_capsule_body
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.pose_head import MlpPoseHead, save_pose_head
from geobody.models.regressor import SmplRegressor
from geobody.training.checkpoint import save_weights

SIZE = 32


def write_models(folder: Path, *, track: str = "rgb", seed: int = 0) -> Path:
    """A folder of small networks with random weights and a body of capsules."""
    torch.manual_seed(seed)
    network = make_encoder_decoder(arm="rhodin", crop_size_px=SIZE, track=track)
    for module in network.modules():  # as after training: statistics that differ from where they start
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    for weights in (network.points.warmth, network.points.slope):
        torch.nn.init.normal_(weights, std=0.1)  # untrained points hardly depend on the picture
    save_weights(folder / "encoder.safetensors", network, network.config)
    head = MlpPoseHead(hidden_units=64)
    head.scale.std_mm.fill_(300.0)
    head.input_scale.fill_(0.05)  # untrained embeddings differ little from crop to crop
    save_pose_head(folder / "pose_head.safetensors", head, {"kind": "mlp", "hidden_units": 64})
    config = {"hidden_units": 64}
    regressor = SmplRegressor(**config)
    torch.nn.init.normal_(regressor.head.weight, std=0.05)
    regressor.input_scale.fill_(0.05)
    save_weights(folder / "smpl_regressor.safetensors", regressor, config)
    write_capsule_body(folder / "body.npz")
    return folder


def room(width: int, height: int) -> np.ndarray:
    """A picture (H,W,3) in which every place has a colour of its own."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.dstack([x, y, 255 - x]).astype(np.uint8)
