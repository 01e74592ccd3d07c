"""How good are poses of unlabelled instants, by how their views are brought together?

``python -m tools.compare_fits`` after ``make repro``: the CNN with S1's labels predicts the views of another training
subject, whose labels judge and nothing else; the predictions are fused, fitted to silhouettes, or looked for where heat
maps meet (``geobody.multiview``). Errors of an instant's first view.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

WAYS = {
    "fused": (False, False),
    "fused, fitted to silhouettes": (False, True),
    "where heat maps meet": (True, False),
    "where heat maps meet, fitted to silhouettes": (True, True),
}
"""Whether heat maps and silhouettes are used."""


CONTROLS = Path("data/models/controls.safetensors")


def compare(repository: Path, *, subject: int, controls: Path = CONTROLS) -> dict[str, dict[str, float]]:
    """Way -> mean MPJPE, N-MPJPE and P-MPJPE over 17 joints, mm, of the training ``subject``'s instants.

    ``controls``, in ``repository`` unless absolute, hold the CNN that predicts.
    """
    import torch

    from geobody.config import load_params
    from geobody.data.crops import CropShards
    from geobody.data.labels import split_labels
    from geobody.metrics import pose_metrics
    from geobody.models.controls import load_cnn
    from geobody.models.pose_batches import labelled_joints
    from geobody.models.pose_network import predict_rows
    from geobody.models.pose_tuning import multiview_labels

    labels = load_params(repository / "params.yaml").labels
    crops = CropShards.open(repository / "data/crops")
    labelled = split_labels(
        crops.table, subjects=labels.subjects, fraction=labels.fraction,
        held_out_fraction=labels.held_out_fraction,
    ).train  # fmt: skip
    views = crops.views(split="train", subjects=[subject])
    network = load_cnn(repository / controls, "cnn_s1")
    predicted = predict_rows(network, crops, views.reshape(-1), heat_maps=True, device=torch.device("cpu"))
    true = crops.table["joints_mm"][views[:, 0]]

    def errors(joints_mm: torch.Tensor) -> dict[str, float]:
        found = pose_metrics(joints_mm.numpy(), true)
        names = ("mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm")
        return {name: float(found[name].mean()) for name in names}

    found = {"one view": errors(predicted.joints_mm.view(*views.shape, 17, 3)[:, 0])}
    for way, (heat_maps, silhouettes) in WAYS.items():
        placed = multiview_labels(
            predicted if heat_maps else predicted._replace(heat=None),
            crops,
            views=views,
            labelled=labelled,
            placed_mm=labelled_joints(crops, labelled),
            silhouettes=silhouettes,
        )
        found[way] = errors(torch.from_numpy(placed[:, 0] - placed[:, 0, :1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_fits", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--repository", type=Path, default=ROOT, help="where to look (default: this checkout)"
    )
    parser.add_argument("--subject", type=int, default=8, help="whose instants (default: 8)")
    parser.add_argument(
        "--controls", type=Path, default=CONTROLS, help=f"whose CNN predicts (default: {CONTROLS})"
    )
    given = parser.parse_args()
    found = compare(given.repository.resolve(), subject=given.subject, controls=given.controls)
    for way, errors in found.items():
        print(f"{way:44s}" + " / ".join(f"{error:5.1f}" for error in errors.values()))


if __name__ == "__main__":
    from geobody.threads import pin_threads

    pin_threads()
    main()
