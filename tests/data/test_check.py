"""What `geobody check` says of a tree that lacks this and that, in either layout."""

import re
import shutil

import cv2
import numpy as np
import pytest
import scipy.io

from broken_mat import write_crashing_mat
from geobody.data.check import Wanted, missing_sequences, page, survey
from geobody.data.h36m import SequenceName
from geobody.errors import DataError
from h36m_tree import write_tree

S1 = "s_01_act_02_subact_01_ca_01"
S9 = "s_09_act_02_subact_01_ca_03"
WANTED = Wanted(subjects=(1, 9), cameras=(1, 2, 3, 4))


@pytest.fixture(params=["thesis", "matlab"])
def tree(request, tmp_path):
    return write_tree(tmp_path, subjects=(1, 9), frames=4, layout=request.param)


def looked_at(tree, wanted=WANTED, **kwargs):
    found = survey(tree.root, wanted)
    return found, page(found, wanted, **kwargs)


def test_a_good_tree_has_no_faults_and_its_table_fits_a_page(tree):
    found, text = looked_at(tree)
    assert found.faults == []
    assert "FAULTS that would stop the pipeline: none" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"S\d+ ", line)}
    assert rows == {name: ["4+0", *["."] * 14, "16", "128x120"] for name in ("S1", "S9")}
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 130
    beside = (tree.root / "annotations").exists()
    assert f".mat     {0 if beside else 8} beside the images, {8 if beside else 0} under annotations/" in text
    assert f"masks/   {'.jpg' if beside else '.png'} in 8 sequences" in text


def meta(tree, folder):
    return next(tree.root.glob(f"*/{folder}/h36m_meta.mat"))


def cut_poses(tree):
    fields = {k: v for k, v in scipy.io.loadmat(meta(tree, S1)).items() if not k.startswith("__")}
    scipy.io.savemat(meta(tree, S1), {**fields, "pose3d_world": fields["pose3d_world"][:2]})


def other_size(tree):
    cv2.imwrite(str(tree.images / S1 / f"{S1}_000001.jpg"), np.zeros((60, 64, 3), np.uint8))


FAULTS = {
    "no mask": (lambda t: next((t.masks / S1).glob("*_000003.*")).unlink(), "1 of 4 images have no mask (frame 3)"),
    "no mat": (lambda t: meta(t, S1).unlink(), f"{S1}: has no h36m_meta.mat, neither beside"),
    "broken mat": (lambda t: meta(t, S1).write_bytes(b"x" * 500), "h36m_meta.mat: cannot be read as .mat"),
    "few poses": (cut_poses, f"{S1}: 2 poses but images up to frame 4"),
    "size": (other_size, f"images/{S1}/{S1}_000001.jpg: is 64x60 pixels, its .mat says 128x120"),
    "empty": (lambda t: (t.images / S1 / f"{S1}_000002.jpg").write_bytes(b""), f"{S1}_000002.jpg: is empty"),
    "no image": (lambda t: (t.images / S1 / f"{S1}_000001.jpg").write_bytes(b"no"), "_000001.jpg: is no image"),
    "name": (lambda t: (t.images / S1).rename(t.images / "walking"), "images/walking: its name is no sequence's"),
    "frame": (lambda t: (t.images / S1 / f"{S1}_000004.jpg").rename(t.images / S1 / "4.jpg"), "4.jpg: its name is not"),
    "twice": (lambda t: shutil.copytree(t.images / S1, t.images / "more" / S1), f"more/{S1}"),
    "subject": (lambda t: [shutil.rmtree(p) for p in t.images.glob("s_09*")], "subject 9 has no images"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_stop_the_pipeline_is_named(tree, fault):
    spoil, said = FAULTS[fault]
    spoil(tree)
    found, text = looked_at(tree)
    assert len([line for line in found.faults if said in line]) == 1, found.faults
    assert said in text.split("FAULTS")[1]


def test_what_would_not_stop_it_is_a_remark(tree):
    (tree.images / S1 / f"{S1}_000002.jpg").unlink()
    (tree.images / S9 / f"{S9}_000004.jpg").unlink()
    shutil.rmtree(tree.images / "s_01_act_02_subact_01_ca_04")
    found, text = looked_at(tree)
    assert found.faults == []
    assert f"{S1}: 1 images are missing between frames 1 and 4" in found.remarks
    assert f"{S9}: 4 poses but images up to frame 3 only" in found.remarks
    assert "s_01_act_02_subact_01_ca_04: has masks or a .mat but no images" in found.remarks
    assert "S1: subaction 1 of action 2, camera 4" in text


def test_a_mat_that_crashes_its_reader_is_a_fault_and_the_others_are_read(tree):
    write_crashing_mat(meta(tree, S1))
    meta(tree, S9).write_bytes(b"x" * 500)
    found, text = looked_at(tree)
    assert [line.partition(": ")[0].rpartition("/")[0].rpartition("/")[2] for line in found.faults] == [
        S1,
        S9,
    ]
    assert "h36m_meta.mat: is damaged: reading it crashes; restore it" in text
    assert found.sizes[9]["128x120"] == 3


def test_images_that_end_in_capitals_are_a_remark_and_not_used(tree):
    for frame in (2, 3):
        path = tree.images / S1 / f"{S1}_{frame:06d}.jpg"
        path.rename(path.with_suffix(".JPG"))
    found, _ = looked_at(tree)
    assert found.faults == []
    first = f"images/{S1}/{S1}_000002.JPG"
    assert f"{first}: is not used, its ending has capitals, as are 1 more in its folder" in found.remarks
    assert found.listings[SequenceName(1, 2, 1, 1)].frames.tolist() == [1, 4]


def test_exclusions_are_given_with_their_reason_and_hide_faults(tree):
    meta(tree, S1).unlink()
    wanted = Wanted(subjects=(1, 9), exclude=((S1, "lost its camera"), ("s_11_*", "not here")))
    found, text = looked_at(tree, wanted)
    assert found.faults == []
    assert f"{S1}: lost its camera (1 sequences here)" in text
    assert "s_11_*: not here (0 sequences here)" in text


def test_known_faults_of_human36m_are_named_where_they_are_there_and_kept(tmp_path):
    tree = write_tree(tmp_path, subjects=(1, 9), actions=(5, 13), frames=2)
    assert "s_09_act_13_subact_01_ca_*: 3D poses drift" in looked_at(tree)[1]
    assert "s_09_act_05" not in looked_at(tree)[1]  # subaction 2 is not there


def test_equal_gaps_share_a_line_and_exclusions_are_no_gaps():
    whole = [
        SequenceName(s, a, b, c) for s in (1, 9) for a in range(2, 17) for b in (1, 2) for c in (1, 2, 3, 4)
    ]
    assert missing_sequences(whole, WANTED) == []
    gone = {SequenceName(1, 3, 2, c) for c in (1, 2, 3, 4)} | {
        SequenceName(9, 7, 1, 2),
        SequenceName(9, 8, 1, 2),
    }
    assert missing_sequences(set(whole) - gone, WANTED) == [
        "S1: subaction 2 of action 3, all cameras",
        "S9: subaction 1 of action 7, 8, camera 2",
    ]
    wanted = Wanted(subjects=(1, 9), exclude=(("s_01_act_03_*", "-"), ("s_09_act_0[78]_*", "-")))
    assert missing_sequences(set(whole) - gone, wanted) == []


def test_long_lists_are_cut_and_shown_in_full_when_asked(tree):
    for path in tree.masks.rglob("*_000003.*"):
        path.unlink()
    for path in tree.images.glob("*/*_000001.jpg"):
        path.write_bytes(b"")
    cut, whole = looked_at(tree)[1], looked_at(tree, everything=True)[1]
    assert re.search(r"\.\.\. and \d+ more \(--all shows them\)", cut)
    assert "--all" not in whole
    assert whole.count("have no mask") == 8


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match="has no folder images/"):
        survey(tmp_path, WANTED)
