"""The SURREAL reader: layout, squeezed clips, broken sequences, broken files."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from geobody.data.surreal import read_surreal
from geobody.errors import DataError


def write_clip(
    root: Path,
    sequence: str,
    *,
    n: int,
    seed: int,
    run: int = 0,
    clip: int = 1,
    split: str = "train",
    **replace: np.ndarray,
) -> Path:
    rng = np.random.default_rng(seed)
    fields: dict[str, np.ndarray] = {
        "pose": rng.normal(size=(72, n)),
        "shape": rng.normal(size=(10, n)),
        "zrot": np.zeros((n, 1)),
        "gender": np.ones((n, 1)),
    } | replace
    path = root / "cmu" / split / f"run{run}" / sequence / f"{sequence}_c{clip:04d}_info.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: value for name, value in fields.items() if value is not None})
    return path


def test_frames_of_all_clips_come_out_in_order_and_the_root_apart(tmp_path: Path) -> None:
    write_clip(tmp_path, "02_01", n=4, seed=2)
    write_clip(tmp_path, "01_01", n=3, seed=1)
    write_clip(tmp_path, "01_01", n=2, seed=3, clip=2)
    poses = read_surreal(tmp_path)
    assert poses.sequences == ("01_01", "02_01")
    assert poses.sequence_id.tolist() == [0] * 5 + [1] * 4
    first = np.random.default_rng(1).normal(size=(72, 3))
    np.testing.assert_allclose(poses.body_pose[1].ravel(), first[3:, 1], rtol=1e-6)
    np.testing.assert_allclose(poses.root[1], first[:3, 1], rtol=1e-6)
    last = np.random.default_rng(2)
    last.normal(size=(72, 4))
    np.testing.assert_allclose(poses.betas[5:], last.normal(size=(10, 4)).T, rtol=1e-6)


def test_one_motion_in_two_runs_has_one_sequence_id(tmp_path: Path) -> None:
    write_clip(tmp_path, "05_03", n=2, seed=1, run=0)
    write_clip(tmp_path, "05_03", n=2, seed=2, run=1)
    assert read_surreal(tmp_path).sequence_id.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(72, 1), (1, 72), (72,)])
def test_a_clip_of_one_frame_may_be_squeezed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    theta = np.arange(72.0) / 50
    write_clip(tmp_path, "01_01", n=1, seed=0, pose=theta.reshape(shape), shape=np.ones(10))
    poses = read_surreal(tmp_path)
    assert len(poses) == 1
    np.testing.assert_allclose(poses.body_pose[0].ravel(), theta[3:], rtol=1e-6)


def test_stride_counts_frames_within_each_clip(tmp_path: Path) -> None:
    write_clip(tmp_path, "01_01", n=5, seed=1)
    write_clip(tmp_path, "01_02", n=4, seed=2)
    every, third = read_surreal(tmp_path), read_surreal(tmp_path, stride=3)
    np.testing.assert_array_equal(third.betas, every.betas[[0, 3, 5, 8]])


def test_sequences_with_broken_shapes_are_dropped_and_counted(tmp_path: Path) -> None:
    for number, name in enumerate(["18_04", "19_01", "143_21", "ung_143_21", "143_22", "118_19"]):
        write_clip(tmp_path, name, n=1, seed=number)
    poses = read_surreal(tmp_path)
    assert poses.sequences == ("118_19", "143_22")
    assert poses.n_dropped == 4


@pytest.mark.parametrize("value", [np.nan, -np.inf, 10.5, -4000.0])
def test_a_shape_that_is_no_persons_takes_its_sequence_out(tmp_path: Path, value: float) -> None:
    shape = np.zeros((10, 3))
    shape[7, 2] = value
    write_clip(tmp_path, "01_01", n=3, seed=0)
    write_clip(tmp_path, "01_02", n=3, seed=1)
    write_clip(tmp_path, "01_02", n=3, seed=2, run=1, shape=shape)
    write_clip(tmp_path, "18_01", n=1, seed=3)
    write_clip(tmp_path, "02_01", n=3, seed=4, shape=np.full((10, 3), 9.5))
    poses = read_surreal(tmp_path)
    assert poses.sequences == ("01_01", "02_01")
    assert poses.n_dropped == 2 and len(poses) == 6
    assert poses.sequence_id.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_roots_rotation_in_the_captures_frame_is_in_no_pose(tmp_path: Path) -> None:
    pose = np.random.default_rng(0).normal(size=(72, 3))
    write_clip(tmp_path / "a", "01_01", n=3, seed=0, pose=pose)
    pose[:3] += 2.0
    write_clip(tmp_path / "b", "01_01", n=3, seed=0, pose=pose)
    first, second = read_surreal(tmp_path / "a"), read_surreal(tmp_path / "b")
    assert first.body_pose.shape == (3, 23, 3)
    np.testing.assert_array_equal(first.body_pose, second.body_pose)


@pytest.mark.parametrize("gender", [0.0, 1.0])
def test_female_and_male_shapes_are_taken_as_they_are(tmp_path: Path, gender: float) -> None:
    shape = np.random.default_rng(1).normal(size=(10, 2))
    write_clip(tmp_path, "01_01", n=2, seed=0, shape=shape, gender=np.full((2, 1), gender))
    np.testing.assert_allclose(read_surreal(tmp_path).betas, shape.T, rtol=1e-6)


@pytest.mark.parametrize(
    ("replace", "problem"),
    [
        ({"pose": None}, "no field 'pose'"),
        ({"shape": np.zeros((16, 3))}, r"shape \(16, 3\)"),
        ({"pose": np.zeros((72, 0))}, r"shape \(72, 0\)"),
        ({"pose": np.full((72, 3), np.nan)}, "not finite"),
        ({"shape": np.zeros((10, 2))}, "3 frames and 'shape' has 2"),
        ({"pose": np.array(["a", "b"])}, "no numbers"),
    ],
)
def test_a_broken_field_names_file_and_cure(tmp_path: Path, replace: dict, problem: str) -> None:
    path = write_clip(tmp_path, "01_01", n=3, seed=0, **replace)
    with pytest.raises(DataError, match=problem) as caught:
        read_surreal(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "prior.root" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 60, 200, 900])
def test_a_truncated_file_is_a_data_error(tmp_path: Path, keep: int) -> None:
    path = write_clip(tmp_path, "01_01", n=30, seed=0)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"01_01_c0001_info\.mat"):
        read_surreal(tmp_path)


def test_a_file_named_after_another_sequence_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path, "01_01", n=1, seed=0)
    path.rename(path.with_name("01_02_c0001_info.mat"))
    with pytest.raises(DataError, match="after its folder"):
        read_surreal(tmp_path)


def test_a_missing_or_empty_set_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro synth"):
        read_surreal(tmp_path / "nowhere")
    (tmp_path / "cmu" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no"):
        read_surreal(tmp_path)
    write_clip(tmp_path, "18_01", n=1, seed=0)
    with pytest.raises(DataError, match="only sequences with broken shapes"):
        read_surreal(tmp_path)


def test_splits_are_read_apart_and_a_missing_one_names_the_cure(tmp_path: Path) -> None:
    write_clip(tmp_path, "01_01", n=2, seed=0)
    with pytest.raises(DataError, match="copy SURREAL's cmu/val there") as caught:
        read_surreal(tmp_path, split="val")
    assert str(caught.value).startswith(f"{tmp_path / 'cmu' / 'val'}: ")
    write_clip(tmp_path, "02_01", n=3, seed=1, split="val")
    assert read_surreal(tmp_path).sequences == ("01_01",)
    assert read_surreal(tmp_path, split="val").sequences == ("02_01",)
