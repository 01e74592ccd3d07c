"""The table of errors by action holds what the metrics say, and nothing for who has no joints."""

from pathlib import Path

from geobody.report.action_table import write_action_table


def section(offset: float) -> dict:
    means = {"mpjpe_17_mm": 90.0 + offset, "n_mpjpe_17_mm": 80.0 + offset, "p_mpjpe_17_mm": 70.0 + offset}
    return {
        "mpjpe_17_mm": 1.0,
        "by_action": {"Walking": means, "Eating": {k: v + 0.5 for k, v in means.items()}},
    }


def test_a_row_per_predictor_and_action_in_a_fixed_order(tmp_path: Path) -> None:
    metrics = {
        "pose": section(0),
        "smpl": section(1),
        "controls": {"cnn_s1": section(1 / 3), "mean_body": {"pve_mm": 3.0}},
    }
    write_action_table(tmp_path / "tables" / "table.csv", metrics)
    assert (tmp_path / "tables" / "table.csv").read_bytes() == (
        b"predictor,action,mpjpe_17_mm,n_mpjpe_17_mm,p_mpjpe_17_mm\n"
        b"head,Eating,90.5,80.5,70.5\n"
        b"head,Walking,90,80,70\n"
        b"body,Eating,91.5,81.5,71.5\n"
        b"body,Walking,91,81,71\n"
        b"cnn_s1,Eating,90.8333,80.8333,70.8333\n"
        b"cnn_s1,Walking,90.3333,80.3333,70.3333\n"
    )
