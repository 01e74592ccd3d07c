"""The data card's figures are those of the committed metrics, and its arithmetic is right."""

import pytest

from tools.write_data_card import CARD, data_card, difficulty


def test_the_figures_are_those_of_the_committed_metrics() -> None:
    text = CARD.read_text()
    assert data_card(text) == text, "run: make report"


def test_a_changed_figure_and_a_missing_part_are_noticed() -> None:
    text = CARD.read_text()
    start = text.index("<!-- counts -->")
    assert data_card(text[:start] + text[start:].replace("images", "pictures", 1)) == text
    with pytest.raises(ValueError, match="counts"):
        data_card(text.replace("<!-- counts -->", ""))


def test_ratios_are_of_the_row_that_they_name() -> None:
    means = {"mean_pose": 200.0, "cnn_s1": 100.0, "cnn_all": 70.0}
    said = difficulty({"controls": {k: {"n_mpjpe_17_mm": v} for k, v in means.items()}}, 5000, 32)
    assert "| 100 | 0.50 of the mean pose's |" in said
    assert "| 70 | 0.70 of the CNN's with S1 alone |" in said
    assert "5,000 steps of 32 images" in said
