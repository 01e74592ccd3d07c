import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.io

from geobody.data import index as index_module
from geobody.data.h36m import read_meta
from geobody.data.index import Index, build_index, chunks
from geobody.errors import DataError
from h36m_tree import poses, write_tree
from stage_runner import run_stage

S1 = "s_01_act_02_subact_01_ca_01"


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path, subjects=(1, 9), actions=(2, 3), frames=5)


def build(tree, output, **changes):
    settings = {
        "manifest": tree.manifest,
        "output": output,
        "train_subjects": (1,),
        "test_subjects": (9,),
    }
    return build_index(**{**settings, **changes})


def test_a_row_per_image_sorted_with_its_pose(tree, tmp_path):
    counts = build(tree, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    keys = index.column("key").tolist()
    on_disk = sorted(path.stem for path in tree.images.rglob("*.jpg"))
    assert keys == on_disk
    assert counts["images"] == len(index) == 2 * 2 * 4 * 5
    joints = index.column("joints_world_mm")
    for i, key in enumerate(keys):
        subject, action, frame = int(key[2:4]), int(key[9:11]), int(key[-6:])
        np.testing.assert_allclose(joints[i], poses(subject, action, 5)[frame - 1], atol=1e-3)
        assert (tree.root / index.column("image")[i]).is_file()
        assert (tree.root / index.column("mask")[i]).is_file()
        assert index.column("split")[i] == ("train" if subject == 1 else "test")
        assert index.folders[index.column("sequence_id")[i]] == key[:-7]


def test_bodies_for_evaluation_alone_are_a_split_whatever_the_params_name(tmp_path):
    tree = write_tree(tmp_path, subjects=(1, 9, 101, 140), cameras=(1, 2), frames=2)
    counts = build(tree, tmp_path / "index", cameras=(1, 2))
    assert (counts["images_train"], counts["images_test"], counts["images_evaluation"]) == (4, 4, 8)
    assert counts["images_per_subject"]["subject_140"] == 4
    index = Index.open(tmp_path / "index")
    subjects = index.column("subject").tolist()
    assert subjects == sorted(subjects)
    for subject, split, key in zip(subjects, index.column("split"), index.column("key"), strict=True):
        assert split == {1: "train", 9: "test"}.get(subject, "evaluation")
        assert key.startswith(f"s_{subject:02d}_act_02_")


def test_an_instant_is_what_all_cameras_saw_at_once(tree, tmp_path):
    build(tree, tmp_path / "index")
    table = pq.read_table(tmp_path / "index" / "images.parquet").to_pylist()
    by_instant = {}
    for row in table:
        by_instant.setdefault(row["instant"], []).append(row)
    assert sorted(by_instant) == list(range(2 * 2 * 5))
    for rows in by_instant.values():
        assert [row["camera"] for row in rows] == [1, 2, 3, 4]
        assert len({(row["subject"], row["action"], row["frame"]) for row in rows}) == 1
        assert len({tuple(row["joints_world_mm"]) for row in rows}) == 1


def test_stride_and_cameras_choose_rows_and_keep_instants_together(tree, tmp_path):
    counts = build(tree, tmp_path / "index", stride=2, cameras=(1, 3))
    index = Index.open(tmp_path / "index")
    assert set(index.column("frame").tolist()) == {1, 3, 5}
    assert set(index.column("camera").tolist()) == {1, 3}
    assert counts["instants_seen_by_all_cameras"] == counts["instants"] == 2 * 2 * 3


def test_a_missing_image_leaves_its_instant_incomplete(tree, tmp_path):
    (tree.images / S1 / f"{S1}_000003.jpg").unlink()
    tree.write_manifest()
    counts = build(tree, tmp_path / "index")
    assert counts["instants"] - counts["instants_seen_by_all_cameras"] == 1
    frames = Index.open(tmp_path / "index").column("frame")
    assert frames[:4].tolist() == [1, 2, 4, 5]


def test_exclusions_are_counted_with_their_reason_and_never_opened(tree, tmp_path):
    (tree.images / S1 / "h36m_meta.mat").write_bytes(b"broken")
    tree.write_manifest()
    counts = build(
        tree, tmp_path / "index", exclude=[(S1, "broken"), ("s_09_act_03_*", "drifts"), ("s_11_*", "-")]
    )
    assert counts["excluded"] == {
        S1: {"reason": "broken", "sequences": 1},
        "s_09_act_03_*": {"reason": "drifts", "sequences": 4},
        "s_11_*": {"reason": "-", "sequences": 0},
    }
    assert counts["sequences"] == 16 - 5


def test_both_layouts_give_the_same_rows(tmp_path):
    lens = {"k": np.array([[-0.1, 0.01, 0.0]]), "p": np.array([[0.001, 0.0]])}
    tables = []
    for layout in ("thesis", "matlab"):
        tree = write_tree(tmp_path / layout, subjects=(1, 9), frames=2, layout=layout, extra=lens)
        build(tree, tmp_path / layout / "index")
        tables.append(pq.read_table(tmp_path / layout / "index" / "images.parquet"))
        cameras = Index.open(tmp_path / layout / "index").cameras
        np.testing.assert_allclose(cameras[0].distortion, [-0.1, 0.01, 0, 0.001, 0])
    assert tables[0].drop(["image", "mask"]).equals(tables[1].drop(["image", "mask"]))
    assert tables[1]["image"][0].as_py() == f"images/{S1}/{S1}_000001.jpg"
    assert tables[1]["mask"][0].as_py() == f"masks/{S1}/{S1}_000001.jpg"


def test_bytes_repeat(tree, tmp_path):
    for name in ("one", "two"):
        build(tree, tmp_path / name)
    for file in ("images.parquet", "sequences.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_no_pixel_is_read(tree, tmp_path):
    for path in [*tree.images.rglob("*.jpg"), *tree.masks.rglob("*.png")]:
        path.write_bytes(b"")
    assert build(tree, tmp_path / "index")["images"] == 80


def test_without_masks_rows_have_none(tree, tmp_path):
    shutil.rmtree(tree.masks)
    tree.write_manifest()
    build(tree, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert set(index.column("mask").tolist()) == {None}
    assert not index.has_masks


def test_chunks_cover_every_row_once_and_cross_no_sequence(tree, tmp_path):
    build(tree, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    found = list(chunks(index, rows_per_chunk=2))
    np.testing.assert_array_equal(np.concatenate(found), np.arange(len(index)))
    for rows in found:
        assert len(rows) <= 2
        assert len(set(index.column("sequence_id")[rows].tolist())) == 1


def test_a_broken_index_is_named(tree, tmp_path):
    build(tree, tmp_path / "index")
    with pytest.raises(DataError, match=r"images\.parquet: is missing; make it with"):
        Index.open(tmp_path)
    (tmp_path / "index" / "sequences.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"sequences\.parquet: cannot be read"):
        Index.open(tmp_path / "index")


def flip_bytes(mat):
    data = bytearray(mat.read_bytes())
    data[200:204] = bytes(255 - b for b in data[200:204])
    mat.write_bytes(bytes(data))


def grow(mat):
    mat.write_bytes(mat.read_bytes() + b"\0")


@pytest.mark.parametrize(("change", "what"), [(flip_bytes, "other bytes"), (grow, r"\d+ bytes, not \d+")])
def test_a_mat_that_does_not_match_the_manifest_is_never_opened(tree, tmp_path, monkeypatch, change, what):
    change(tree.images / S1 / "h36m_meta.mat")
    opened = []

    def spy(path):
        opened.append(path.parent.name)
        return read_meta(path)

    monkeypatch.setattr(index_module, "read_meta", spy)
    wanted = rf"{S1}/h36m_meta\.mat: does not match the manifest \({what}\); restore it, or write it with"
    with pytest.raises(DataError, match=wanted):
        build(tree, tmp_path / "index")
    assert S1 not in opened


def test_a_mat_that_the_manifest_does_not_list_is_named(tree, tmp_path):
    mat = tree.images / S1 / "h36m_meta.mat"
    content = mat.read_bytes()
    mat.unlink()
    tree.write_manifest()
    mat.write_bytes(content)
    with pytest.raises(DataError, match=rf"{S1}/h36m_meta\.mat: is not in the manifest; write"):
        build(tree, tmp_path / "index")


def test_a_subject_whose_images_all_fall_to_the_stride_is_named(tree, tmp_path):
    for path in tree.images.glob("s_09*/*_000001.jpg"):
        path.unlink()
    tree.write_manifest()
    assert build(tree, tmp_path / "one")["images_per_subject"] == {"subject_01": 40, "subject_09": 32}
    with pytest.raises(DataError, match=r"no images of subject 9 at stride 5; .*dataset\.test_subjects"):
        build(tree, tmp_path / "five", stride=5)


# Bad input, through the stage as a user runs it.


def rename_folder(tree):
    (tree.images / S1).rename(tree.images / "subject1")


def remove_mask(tree):
    (tree.masks / S1 / f"{S1}_000004.png").unlink()


def change_mat(tree, change):
    path = tree.images / S1 / "h36m_meta.mat"
    fields = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    change(fields)
    scipy.io.savemat(path, fields)


def remove_subject(tree):
    for folder in [*tree.images.glob("s_09*"), *tree.masks.glob("s_09*")]:
        shutil.rmtree(folder)


def one_nan(fields):
    fields["pose3d_world"][1, 4, 0] = np.nan


FAULTS = {
    "folder": (rename_folder, ["subject1", "rename it"]),
    "mask": (remove_mask, [f"{S1}_000004.png", "is missing", "add it"]),
    "no mat": (lambda t: (t.images / S1 / "h36m_meta.mat").unlink(), [f"{S1}/h36m_meta.mat", "is missing"]),
    "field": (lambda t: change_mat(t, lambda f: f.pop("c")), [f"{S1}/h36m_meta.mat", "no field c"]),
    "nan": (lambda t: change_mat(t, one_nan), [f"{S1}/h36m_meta.mat", "NaN", "row 2"]),
    "rotation": (lambda t: change_mat(t, lambda f: f.update(R=2 * f["R"])), ["h36m_meta.mat", "no rotation"]),
    "few poses": (
        lambda t: change_mat(t, lambda f: f.update(pose3d_world=f["pose3d_world"][:3])),
        ["h36m_meta.mat", "3 poses, fewer than the images", f"{S1}_000005.jpg"],
    ),
    "subject": (remove_subject, ["no images of subject 9", "dataset.test_subjects"]),
    "root": (lambda t: None, ["nowhere/manifest.parquet", "is missing", "params.yaml"]),
    "twice": (
        lambda t: shutil.copytree(t.images / S1, t.images / "copy" / S1),
        [S1, "is there twice", "remove one"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_end_in_one_line_exit_3_and_nothing_half_written(tmp_path, fault):
    tree = write_tree(tmp_path, subjects=(1, 9), frames=5, cameras=(1, 2))
    spoil, words = FAULTS[fault]
    spoil(tree)
    tree.write_manifest()
    root = {"root": str(tmp_path / "nowhere")} if fault == "root" else {}
    done = run_stage(tree, tmp_path / "work", "index", cameras=[1, 2], **root)
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
    written = [p for p in (tmp_path / "work").rglob("*") if p.is_file() and p.name != "params.yaml"]
    assert written == []


def test_bad_params_end_in_one_line_and_exit_2(tree, tmp_path):
    for change, word in (({"stride": 0}, "dataset.stride"), ({"test_subjects": [1]}, "train_subjects")):
        done = run_stage(tree, tmp_path / "work", "index", **change)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert word in done.stderr


def test_the_stage_writes_index_and_counts(tree, tmp_path):
    done = run_stage(tree, tmp_path / "work", "index")
    assert done.returncode == 0, done.stderr
    assert "80 images of 16 sequences at stride 1" in done.stdout
    assert len(Index.open(tmp_path / "work" / "data" / "index")) == 80
    assert (tmp_path / "work" / "metrics" / "index.json").is_file()
