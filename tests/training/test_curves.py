from pathlib import Path

import pytest

from geobody.training.curves import CurveWriter, merge_curves


def test_rows_and_their_text_agree(tmp_path):
    writer = CurveWriter(tmp_path / "new/curves.csv")
    writer.write(10, {"total": 1 / 3, "mask": 2.0})
    writer.write(20, {"total": 1e-9, "mask": -1.0})
    assert writer.path.read_text() == writer.text == "step,total,mask\n10,0.333333,2\n20,1e-09,-1\n"


def test_rows_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    path = tmp_path / "curves.csv"
    first = CurveWriter(path)
    first.write(1, {"total": 1.0})
    kept = first.text
    first.write(2, {"total": 2.0})
    CurveWriter(path, kept).write(2, {"total": 3.0})
    assert path.read_text() == "step,total\n1,1\n2,3\n"


def test_other_terms_are_refused(tmp_path):
    writer = CurveWriter(tmp_path / "curves.csv")
    writer.write(1, {"total": 1.0})
    with pytest.raises(ValueError, match="terms changed"):
        writer.write(2, {"mask": 1.0})


def test_merged_curves_keep_every_row_under_its_name(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("one", "two")}
    files["one"].write_text("step,total\n1,0.5\n2,0.25\n")
    files["two"].write_text("step,total\n1,0.75\n")
    merge_curves(files, tmp_path / "all.csv", column="network")
    assert (tmp_path / "all.csv").read_text() == "network,step,total\none,1,0.5\none,2,0.25\ntwo,1,0.75\n"
