"""`geobody predict`: five files for each image, whole or not at all, and one line for what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import smplx
import torch
import trimesh
from PIL import Image

from capsule_body import capsule_body
from geobody import cli, predict_files
from geobody.body.model import LANDMARKS
from geobody.conventions import H36M_JOINTS
from geobody.data.user_crops import WHOLE_DEPTH_MM
from geobody.predict import Predictor
from geobody.predict_files import FILES, JOINTS, read_picture
from knowing import knowing
from small_models import SIZE, room, write_models

WIDE = (80, 60)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two square pictures, a wide one with its mask, and a picture cut short."""
    for name in ("a", "b"):
        Image.fromarray(room(SIZE, SIZE) // (1 + (name == "b"))).save(tmp_path / f"{name}.png")
    Image.fromarray(room(*WIDE)).save(tmp_path / "wide.jpg")
    mask = np.zeros(WIDE[::-1], np.uint8)
    mask[10:50, 30:45] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(0 * mask).save(tmp_path / "nobody.png")
    data = (tmp_path / "wide.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[:-60])
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


def run(models: Path, folder: Path, *arguments: str) -> int:
    """The exit code of ``geobody predict``; arguments that name a picture of the folder become its path."""
    given = [str(folder / x) if x.endswith((".png", ".jpg")) else x for x in arguments]
    return cli.main(["predict", *given, "--models", str(models), "--out", str(folder / "out")])


def written(folder: Path) -> list[str]:
    out = folder / "out"
    return (
        sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
        if out.exists()
        else []
    )


def all_of(*names: str) -> list[str]:
    return sorted(f"{name}/{file}" for name in names for file in FILES)


def test_the_files_hold_what_the_python_call_returns(
    models: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models, folder, "a.png", "b.png") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"{folder / 'out'}: 2 images, ")
    assert " a second" in said.out
    assert written(folder) == all_of("a", "b")
    found = Predictor.open(models)([read_picture(folder / f"{name}.png") for name in "ab"])
    for i, name in enumerate("ab"):
        out = folder / "out" / name
        joints = json.loads((out / "joints.json").read_text())
        assert joints["joint_names"] == list(H36M_JOINTS)
        np.testing.assert_allclose(joints["joints_mm"], found.joints_mm[i], atol=0.006)
        np.testing.assert_allclose(joints["body_joints_mm"], found.body_joints_mm[i], atol=0.006)
        assert joints["crop"]["from"] == "whole"
        assert joints["camera"]["focal_is_assumed"] is True
        assert np.array_equal(read_picture(out / "crop.png"), read_picture(folder / f"{name}.png"))
        with np.load(out / "smpl.npz", allow_pickle=False) as smpl:
            np.testing.assert_array_equal(smpl["poses"], found.poses[i : i + 1])
            np.testing.assert_array_equal(smpl["betas"], found.betas[i])
            np.testing.assert_array_equal(smpl["trans"], found.transl[i : i + 1])
    assert not np.array_equal(found.joints_mm[0], found.joints_mm[1])


def test_smplx_makes_the_mesh_from_the_npz(models: Path, folder: Path) -> None:
    """The keys and shapes are those that ``smplx``' own body takes, and give the mesh of the .glb."""
    assert run(models, folder, "wide.jpg", "--mask", "mask.png", "--focal", "90") == 0
    with np.load(folder / "out/wide/smpl.npz", allow_pickle=False) as smpl:
        values = dict(smpl)
    arrays = capsule_body()
    body = smplx.SMPL(
        "", data_struct=smplx.utils.Struct(**{k: arrays[k] for k in
        ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")}),
        vertex_ids=dict(zip(LANDMARKS, arrays["landmarks"].tolist(), strict=True)), dtype=torch.float64,
    )  # fmt: skip
    given = {
        name: torch.from_numpy(values[name]).double() for name in ("global_orient", "body_pose", "transl")
    }
    vertices = body(betas=torch.from_numpy(values["betas"])[None].double(), **given).vertices[0].numpy()
    mesh = trimesh.load(folder / "out/wide/body.glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices * [1, -1, -1], vertices, atol=1e-4)  # metres, y up, camera at 0
    np.testing.assert_array_equal(mesh.faces, arrays["f"])
    np.testing.assert_array_equal(
        values["poses"], np.concatenate((values["global_orient"], values["body_pose"]), 1)
    )
    assert values["poses"].shape == (1, 72)
    assert str(values["gender"]) == "neutral"
    assert mesh.vertices[:, 2].max() < 0  # before glTF's camera, which looks along -z
    assert 0.8 < np.linalg.norm(np.ptp(mesh.vertices, axis=0)) < 4


def test_the_same_images_give_the_same_bytes(models: Path, folder: Path) -> None:
    runs = []
    for _ in range(2):
        assert run(models, folder, "a.png") == 0
        runs.append({name: (folder / "out/a" / name).read_bytes() for name in FILES})
        shutil.rmtree(folder / "out")
    assert runs[0] == runs[1]


def test_a_box_for_each_image_in_their_order(
    models: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = ["--box", "30", "10", "15", "40", "--box", "2", "2", "20", "28"]
    assert run(models, folder, "wide.jpg", "a.png", *boxes) == 0
    assert "note: the networks were trained on crops around the labelled root" in capsys.readouterr().err
    for name, box in (("wide", [30, 10, 15, 40]), ("a", [2, 2, 20, 28])):
        assert json.loads((folder / f"out/{name}/joints.json").read_text())["crop"]["box_px"] == box
    by_mask = json.loads((folder / "out/wide/joints.json").read_text())
    assert run(models, folder, "wide.jpg", "--mask", "mask.png") == 0
    by_box = json.loads((folder / "out/wide/joints.json").read_text())
    np.testing.assert_allclose(by_box["joints_mm"], by_mask["joints_mm"], atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["missing.png"], 3, "missing.png: is missing; give a whole JPEG, PNG"),
        (["text.png"], 3, "text.png: is no picture; give a whole JPEG, PNG"),
        (["a.png", "--mask", "text.png"], 3, "text.png: is no picture; give a whole picture that is white"),
        (["a.png", "--mask", "mask.png"], 3, "mask.png: is 80x60 pixels, not 32x32 as"),
        (["wide.jpg"], 2, "wide.jpg: is 80x60 pixels: a whole image is taken for a crop, which is square; give a box"),
        (["a.png", "b.png", "--box", "0", "0", "9", "9"], 2, "boxes: 1 for 2 images: give one for each"),
        (["a.png", "--box", "0", "0", "9"], 2, "--box: expected 4 arguments"),
        (["a.png", "--box", "90", "0", "9", "9"], 2, "a.png: box 90 0 9 9: lies outside the image, which is 32x32"),
        (["wide.jpg", "--mask", "nobody.png"], 2, "wide.jpg: its mask shows nobody"),
        (["a.png", "a.png"], 2, "a.png: is called as"),
        (["a.png", "--crop", "box"], 2, "a.png: has no box to be cropped by"),
        (["a.png", "--focal", "-3"], 2, "a.png: focal length -3 px: must be positive"),
        (["a.png", "--body", "nowhere.npz"], 3, "nowhere.npz: no such body file"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(
    models: Path, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    try:
        found = run(models, folder, *arguments)
    except SystemExit as error:  # argparse's own
        found = int(str(error.code))
    lines = capsys.readouterr().err.splitlines()
    assert found == code
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]
    assert len([line for line in lines if not line.startswith("note: ")]) == 1
    assert written(folder) == []


@pytest.mark.parametrize(("x_mm", "notes"), [(0.0, 0), (300.0, 1)])
def test_a_picture_that_is_no_crop_around_the_hip_is_said_to_be_none(
    models: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    x_mm: float,
    notes: int,
) -> None:
    joints = np.random.default_rng(0).normal(0, 100, (17, 3)) * [1, 2, 1]
    knows = knowing(models, joints_mm=joints - joints[0], root_mm=np.array([x_mm, 0.0, WHOLE_DEPTH_MM]))
    monkeypatch.setattr(Predictor, "open", lambda *_, **__: knows)
    assert run(models, folder, "a.png") == 0
    said = [
        line
        for line in capsys.readouterr().err.splitlines()
        if "1 of 1 do not show 2 m around the hip" in line
    ]
    assert len(said) == notes
    assert json.loads((folder / "out" / "a" / JOINTS).read_text())["crop"]["misplaced"] == bool(notes)


def test_models_that_are_missing_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, folder, "a.png") == 3
    assert f"error: {folder}/encoder.safetensors: is missing; put it there" in capsys.readouterr().err
    assert written(folder) == []


def test_a_broken_image_ends_the_run_and_those_before_it_are_whole(
    models: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = ["--box", "1", "1", "20", "20"]
    assert run(models, folder, "a.png", "cut.jpg", "b.png", *3 * box) == 3
    assert "cut.jpg: cannot be decoded (image file is truncated" in capsys.readouterr().err
    assert written(folder) == all_of("a")


def test_what_fails_while_it_is_written_leaves_the_older_folder(
    models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models, folder, "a.png") == 0
    before = (folder / "out/a/overlay.png").read_bytes()
    Image.fromarray(room(SIZE, SIZE)[::-1]).save(folder / "a.png")

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predict_files, "glb", full)
    assert run(models, folder, "a.png", "b.png") == 3
    assert "no space left on the device" in capsys.readouterr().err
    assert written(folder) == all_of("a")
    assert (folder / "out/a/overlay.png").read_bytes() == before
    monkeypatch.undo()
    assert run(models, folder, "a.png", "b.png") == 0
    assert written(folder) == all_of("a", "b")
    assert (folder / "out/a/overlay.png").read_bytes() != before


def test_what_a_killed_run_left_is_taken_away(models: Path, folder: Path) -> None:
    for kind in ("new", "old"):
        (folder / f"out/.tmp-{kind}-a").mkdir(parents=True)
        (folder / f"out/.tmp-{kind}-a/half.png").write_bytes(b"half")
    assert run(models, folder, "a.png") == 0
    assert written(folder) == all_of("a")


def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    upright = room(40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "turned.png"), upright)
    assert predict_files.picture_size(tmp_path / "turned.png", "") == (40, 20)
