"""The licensed SMPL file, by a stand-in: converted whole, refused by name, or not written at all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix
from scipy.spatial.transform import Rotation
from smplx import SMPL
from smplx.utils import Struct
from smplx.vertex_ids import vertex_ids

from geobody.body import official
from geobody.body.model import LANDMARKS, BodyModel, read_body
from geobody.body.official import convert_smpl
from geobody.cli import main
from geobody.conventions import H36M_JOINTS
from geobody.errors import DataError, ParamsError
from geobody.models.mean_body import fit_mean_body
from smpl_pickle import official_content, smpl_sized, write_official

NAMES = {
    "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl": 10, "basicmodel_m_lbs_10_207_0_v1.0.0.pkl": 10,
    "basicmodel_f_lbs_10_207_0_v1.1.0.pkl": 300,
}  # fmt: skip
"""Names of official files, and how many shape components they hold."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("smpl") / next(iter(NAMES)), official_content())


@pytest.fixture(scope="module")
def converted(source: Path) -> Path:
    convert_smpl(source, source.with_suffix(".npz"))
    return source.with_suffix(".npz")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fit of Human3.6M's joints, which has tests of its own."""
    rows = np.full((17, 6890), 1 / 6890)
    monkeypatch.setattr(official, "transfer_regressor", lambda arrays: (rows, np.zeros(17)))


def test_every_array_comes_over_as_it_was(converted: Path) -> None:
    body = read_body(converted)
    for key, value in smpl_sized().items():
        np.testing.assert_array_equal(body[key], value, err_msg=key)
    assert [vertex_ids["smplh"][name] for name in LANDMARKS] == body["landmarks"].tolist()


def test_the_mean_body_of_stage_controls_is_fitted_with_it(converted: Path) -> None:
    body = BodyModel.load(converted)
    rng = np.random.default_rng(3)
    pose = rng.normal(0, 0.2, (23, 3))
    orientation = Rotation.from_rotvec([0.3, 2.5, -0.2]).as_matrix()
    with torch.no_grad():
        joints = body(
            betas=torch.zeros(1, 10),
            body_pose=axis_angle_to_matrix(torch.from_numpy(pose).float())[None],
            global_orient=torch.from_numpy(orientation).float()[None],
            transl=torch.zeros(1, 3),
        ).joints_h36m[0].numpy()  # fmt: skip
    labels = np.repeat(1000 * (joints - joints[:1])[None], 4, 0)
    mean = fit_mean_body(body=body, body_pose=np.repeat(pose[None], 5, 0), poses_mm=labels)
    np.testing.assert_allclose(mean.global_orient, orientation, atol=1e-3)
    np.testing.assert_array_equal(mean.betas, np.zeros(10))


def test_our_loader_and_smplx_pose_it_alike(converted: Path) -> None:
    ours = BodyModel.load(converted, torch.float64)
    assert ours.meta["is_smpl"] is True and "not compared" in ours.meta["J_regressor_h36m"]
    theirs = SMPL("", data_struct=Struct(**read_body(converted)), dtype=torch.float64)
    torch.manual_seed(0)
    betas, pose, root = (
        torch.randn(1, 10).double(),
        0.3 * torch.randn(1, 69).double(),
        torch.randn(1, 3).double(),
    )
    said = theirs(betas=betas, body_pose=pose, global_orient=root, pose2rot=True)
    from pytorch3d.transforms import axis_angle_to_matrix

    mine = ours(
        betas=betas, body_pose=axis_angle_to_matrix(pose.view(1, 23, 3)),
        global_orient=axis_angle_to_matrix(root), transl=torch.zeros(1, 3).double(),
    )  # fmt: skip
    # smplx adds 1e-8 to an axis-angle before it takes its length.
    torch.testing.assert_close(mine.vertices, said.vertices, atol=1e-7, rtol=0)
    torch.testing.assert_close(mine.joints, said.joints[:, :24], atol=1e-7, rtol=0)


def test_the_same_file_gives_the_same_bytes(source: Path, converted: Path, tmp_path: Path) -> None:
    convert_smpl(source, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == converted.read_bytes()


@pytest.mark.usefixtures("quick")
def test_the_same_bytes_come_out_whatever_the_callers_threads(
    source: Path, converted: Path, tmp_path: Path
) -> None:
    """Not every machine's sums show their number, so the libraries' settings are asked for too."""
    output = tmp_path / "again.npz"
    program = """import json, os, sys
from geobody.cli import main
assert "numpy" not in sys.modules
code = main(["convert-smpl", sys.argv[1], sys.argv[2]])
import torch
print(json.dumps([code, os.environ["OPENBLAS_NUM_THREADS"], torch.get_num_threads()]))"""
    several = {name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(source), str(output)], env={**os.environ, **several},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == [0, "1", 1]
    assert output.read_bytes() == converted.read_bytes()


@pytest.mark.parametrize("name", list(NAMES)[1:])
def test_every_edition_is_read_and_of_300_shape_components_the_first_ten(tmp_path: Path, name: str) -> None:
    source = write_official(tmp_path / name, official_content(shape_components=NAMES[name]))
    convert_smpl(source, tmp_path / "out.npz")
    np.testing.assert_array_equal(read_body(tmp_path / "out.npz")["shapedirs"], smpl_sized()["shapedirs"])


@pytest.mark.usefixtures("quick")
def test_a_file_cleaned_of_chumpy_is_read_too(tmp_path: Path) -> None:
    source = write_official(tmp_path / "clean.pkl", smpl_sized(), protocol=5, python2=False)
    convert_smpl(source, tmp_path / "out.npz")
    np.testing.assert_array_equal(read_body(tmp_path / "out.npz")["posedirs"], smpl_sized()["posedirs"])


def nan_template() -> np.ndarray:
    template = smpl_sized()["v_template"].copy()
    template[5, 1] = np.nan
    return template


def negative_weights() -> np.ndarray:
    weights = smpl_sized()["weights"].copy()
    weights[0] = 1.5 * np.eye(24)[0] - 0.5 * np.eye(24)[1]
    return weights


BAD: dict[str, tuple[str, Callable[[], np.ndarray | None]]] = {
    "holds no array weights": ("weights", lambda: None),
    "v_template has shape": ("v_template", lambda: np.zeros((10475, 3))),
    "v_template holds NaN": ("v_template", nan_template),
    "rows of weights do not sum": ("weights", lambda: 1.1 * smpl_sized()["weights"]),
    "rows of J_regressor do not sum": ("J_regressor", lambda: 2 * smpl_sized()["J_regressor"]),
    "weights are negative": ("weights", negative_weights),
    "kintree_table is not SMPL's": ("kintree_table", lambda: np.zeros((2, 24), np.uint32)),
    "f names a vertex": ("f", lambda: np.array([[0, 1, 6890]], np.uint32)),
    "f holds float64": ("f", lambda: np.array([[0.0, 1, 2]])),
    "shapedirs has shape": ("shapedirs", lambda: smpl_sized()["shapedirs"][..., :6]),
    "not a person's metres": ("v_template", lambda: 1000 * smpl_sized()["v_template"]),
    "left hip": ("v_template", lambda: smpl_sized()["v_template"] * (-1, 1, 1)),
}


@pytest.mark.parametrize("problem", BAD)
def test_what_is_no_smpl_body_ends_in_one_line_and_writes_nothing(
    tmp_path: Path, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, make = BAD[problem]
    arrays = {**smpl_sized(), key: make()}
    found = {name: value for name, value in arrays.items() if value is not None}
    monkeypatch.setattr(official, "read_array_pickle", lambda path: found)
    source = tmp_path / "model.pkl"
    with pytest.raises(DataError, match=problem) as caught:
        convert_smpl(source, tmp_path / "out.npz")
    assert str(caught.value).startswith(f"{source}: is no SMPL body: ") and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_objects_is_no_part_of_a_body(tmp_path: Path) -> None:
    content = {"v_template": np.array([[None]], dtype=object), "f": smpl_sized()["f"]}
    source = write_official(tmp_path / "model.pkl", content)
    with pytest.raises(DataError, match="holds no array v_template, shapedirs"):
        convert_smpl(source, tmp_path / "out.npz")


def test_the_command_converts_says_what_it_made_and_refuses_in_one_line(
    source: Path, converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "smpl.npz"
    assert main(["convert-smpl", str(source), str(output)]) == 0
    assert output.read_bytes() == converted.read_bytes()
    assert "6890 vertices" in (said := capsys.readouterr().out) and "--h36m-regressor" in said
    hostile = tmp_path / "hostile.pkl"
    hostile.write_bytes(b"cposix\nsystem\n(Vtrue\ntR.")
    assert main(["convert-smpl", str(hostile), str(tmp_path / "other.npz")]) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"error: {hostile}: asks for posix.system, which") and error.count("\n") == 1
    assert main(["convert-smpl", str(source), str(tmp_path / "other.pkl")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.pkl", "smpl.npz"]


def test_a_hostile_file_is_refused_by_name_and_leaves_what_was_there(tmp_path: Path) -> None:
    trap, output = tmp_path / "trap", tmp_path / "out.npz"
    output.write_bytes(b"mine")
    source = tmp_path / "model.pkl"
    source.write_bytes(f"cposix\nsystem\n(Vtouch {trap}\ntR.".encode())
    with pytest.raises(DataError, match=r"model\.pkl: asks for posix\.system, which holds no array"):
        convert_smpl(source, output)
    assert not trap.exists() and output.read_bytes() == b"mine"


def test_an_output_that_is_no_npz_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"model\.pkl: the converted body is an \.npz"):
        convert_smpl(tmp_path / "none.pkl", tmp_path / "model.pkl")


def own_regressor() -> np.ndarray:
    """A regressor of a user's own: for each joint the vertex nearest to where it is sought."""
    template = smpl_sized()["v_template"]
    places = {
        "hip": (0, -0.05, 0),
        "spine": (0, 0.2, 0),
        "neck": (0, 0.5, 0),
        "head": (0, 0.6, 0.1),
        "head_top": (0, 0.8, 0),
    }
    limbs = {"hip": (0.1, -0.1), "knee": (0.1, -0.5), "ankle": (0.1, -0.9), "shoulder": (0.2, 0.45),
             "elbow": (0.45, 0.45), "wrist": (0.7, 0.45)}  # fmt: skip
    rows = np.zeros((17, 6890))
    for j, name in enumerate(H36M_JOINTS):
        side, _, part = name.rpartition("_")
        x, y = limbs.get(part, (0, 0))
        place = places.get(name, (x if side == "left" else -x, y, 0))
        rows[j, np.linalg.norm(template - place, axis=1).argmin()] = 1.0
    return rows


def test_a_users_own_regressor_is_taken_and_said(source: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", own_regressor().astype(np.float32))
    done = convert_smpl(source, tmp_path / "out.npz", h36m_regressor=tmp_path / "mine.npy")
    assert done.h36m_fit_mm is None
    body = BodyModel.load(tmp_path / "out.npz")
    assert body.meta["J_regressor_h36m"] == "the user's"
    np.testing.assert_array_equal(body.J_regressor_h36m.numpy(), own_regressor().astype(np.float32))


SPOILT = {
    "not floating point": lambda rows: rows[:14],
    "do not sum to one": lambda rows: rows * 2,
    "other side": lambda rows: rows[[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]],
    "head below the hip": lambda rows: rows[[10, *range(1, 10), 0, *range(11, 17)]],
    "is no readable array": lambda rows: np.array([{"a": 1}], dtype=object),
}


@pytest.mark.parametrize("problem", SPOILT)
def test_a_regressor_in_another_order_or_shape_is_refused(source: Path, tmp_path: Path, problem: str) -> None:
    np.save(tmp_path / "mine.npy", SPOILT[problem](own_regressor()))
    with pytest.raises(DataError, match=problem):
        convert_smpl(source, tmp_path / "out.npz", h36m_regressor=tmp_path / "mine.npy")
    assert not (tmp_path / "out.npz").exists()
