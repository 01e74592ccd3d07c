"""The data card's figures are those of the committed metrics, and its arithmetic is right."""

import csv
import json
from pathlib import Path

import pytest

from committed import committed
from tools import write_data_card
from tools.data_hash import crops_hash, same_data
from tools.write_data_card import CARD, CONVERGENCE, ROOT, convergence, data_card, difficulty

COLUMNS = "control,labels,steps,batch_size,seed,n_mpjpe_17_mm,ratio,of,crops"
CONVERGED = (
    "mean_pose,S1,,,,200.4,,,0f",
    "cnn_s1,S1,9000,32,0,120.2,0.600,mean_pose,0f",
    "cnn_all,S1+S5,9000,32,0,84.1,0.700,cnn_s1,0f",
)


def table(folder: Path, *rows: str) -> Path:
    path = folder / "convergence.csv"
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")
    return path


def test_the_figures_are_those_of_the_committed_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or of the checkout's, before they are committed."""
    text = CARD.read_text()
    of_the_checkout = data_card(text)
    monkeypatch.setattr(
        write_data_card, "_metrics", lambda name: json.loads(committed(ROOT / f"metrics/{name}.json"))
    )
    assert text in (of_the_checkout, data_card(text)), "run: make report"


def test_a_changed_figure_and_a_missing_part_are_noticed() -> None:
    text = data_card(CARD.read_text())
    for part, figure in (("counts", "images"), ("convergence", "CNN from scratch")):
        start = text.index(f"<!-- {part} -->")
        assert data_card(text[:start] + text[start:].replace(figure, "another", 1)) == text
        with pytest.raises(ValueError, match=part):
            data_card(text.replace(f"<!-- {part} -->", ""))


def test_of_converged_controls_one_subject_helps_and_five_help_more() -> None:
    with CONVERGENCE.open(newline="") as file:
        found = {row["control"]: row for row in csv.DictReader(file)}
    for name, of, limit in (("cnn_s1", "mean_pose", 0.75), ("cnn_all", "cnn_s1", 0.8)):
        ratio = float(found[name]["ratio"])
        assert found[name]["of"] == of
        assert ratio <= limit
        errors = [float(found[which]["n_mpjpe_17_mm"]) for which in (name, of)]
        assert ratio == pytest.approx(errors[0] / errors[1], abs=0.002)  # of errors rounded to 0.1 mm
    text = CARD.read_text()
    part = text[text.index("<!-- convergence -->") : text.index("<!-- end convergence -->")]
    assert f"{int(found['cnn_all']['steps']):,} steps" in part
    for name in ("cnn_s1", "cnn_all"):
        assert f" | {float(found[name]['ratio']):.2f} of: " in part


def test_the_data_set_is_the_one_that_the_controls_converged_on() -> None:
    """It is frozen, on whatever kind of processor: whoever changes it measures again how hard it is, before anything is
    compared on it."""
    with CONVERGENCE.open(newline="") as file:
        (measured,) = {row["crops"] for row in csv.DictReader(file)}
    lock = ROOT / "dvc.lock"
    known = [crops_hash(text) for text in (lock.read_text(), committed(lock))]
    assert any(same_data(measured, crops) for crops in known), "run: make convergence"


def test_converged_controls_are_shown_with_their_training(tmp_path: Path) -> None:
    said = convergence(table(tmp_path, *CONVERGED))
    assert "| mean pose | S1 | 200 |  |" in said
    assert "| CNN from scratch | S1 | 120 | 0.60 of: mean pose, S1 |" in said
    assert "| CNN from scratch | S1, S5 | 84 | 0.70 of: CNN from scratch, S1 |" in said
    assert "9,000 steps of 32 images, seed 0" in said


def test_a_table_that_says_less_than_it_should_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make convergence"):
        data_card(CARD.read_text(), converged=tmp_path / "none.csv")
    with pytest.raises(ValueError, match="cnn_all"):
        convergence(table(tmp_path, *CONVERGED[:2]))
    with pytest.raises(ValueError, match="one training"):
        convergence(table(tmp_path, *CONVERGED[:2], CONVERGED[2].replace("9000", "400")))


def test_ratios_are_of_the_row_that_they_name() -> None:
    means = {"mean_pose": 200.0, "cnn_s1": 100.0, "cnn_all": 70.0}
    said = difficulty({"controls": {k: {"n_mpjpe_17_mm": v} for k, v in means.items()}}, 5000, 32)
    assert "| 100 | 0.50 of the mean pose's |" in said
    assert "| 70 | 0.70 of the CNN's with S1 alone |" in said
    assert "5,000 steps of 32 images" in said
