"""A body file becomes a body that obeys linear blend skinning; anything else ends in one line."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pytorch3d.transforms import random_rotations
from smplx import SMPL
from smplx.utils import Struct

from geobody.body.model import LANDMARKS, BodyModel, read_body
from geobody.errors import DataError
from stage_runner import ROOT, run_with
from tests.capsule_body import capsule_body, write_capsule_body


@pytest.fixture(scope="module")
def body_file(tmp_path_factory):
    return write_capsule_body(tmp_path_factory.mktemp("body") / "capsule.npz")


@pytest.fixture(scope="module")
def model(body_file):
    return BodyModel.load(body_file, dtype=torch.float64)


def identity_pose(n: int) -> dict[str, torch.Tensor]:
    eye = torch.eye(3, dtype=torch.float64)
    return {
        "betas": torch.zeros(n, 10, dtype=torch.float64),
        "body_pose": eye.expand(n, 23, 3, 3),
        "global_orient": eye.expand(n, 3, 3),
        "transl": torch.zeros(n, 3, dtype=torch.float64),
    }


def random_pose(n: int, *, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "betas": torch.randn(n, 10, dtype=torch.float64),
        "body_pose": random_rotations(n * 23, dtype=torch.float64).reshape(n, 23, 3, 3),
        "global_orient": random_rotations(n, dtype=torch.float64),
        "transl": torch.randn(n, 3, dtype=torch.float64),
    }


def test_the_identity_pose_is_the_template(model):
    output = model(**identity_pose(2))
    assert output.vertices.shape == (2, model.num_vertices, 3)
    assert output.joints.shape == (2, 24, 3)
    assert output.joints_h36m.shape == (2, 17, 3)
    torch.testing.assert_close(output.vertices[1], model.v_template, atol=1e-12, rtol=0)


def test_root_rotation_and_translation_move_everything_rigidly_about_the_pelvis(model):
    posed = random_pose(3, seed=1)
    straight = {**posed, "global_orient": torch.eye(3, dtype=torch.float64).expand(3, 3, 3)}
    straight["transl"] = torch.zeros(3, 3, dtype=torch.float64)
    before, after = model(**straight), model(**posed)
    pelvis = before.joints[:, :1]
    for name in ("vertices", "joints", "joints_h36m"):
        moved = torch.einsum("bij,bvj->bvi", posed["global_orient"], getattr(before, name) - pelvis)
        expected = moved + pelvis + posed["transl"][:, None]
        torch.testing.assert_close(getattr(after, name), expected, atol=1e-10, rtol=0)


def test_a_bent_elbow_moves_the_forearm_and_nothing_else():
    arrays = {**capsule_body(), "posedirs": np.zeros_like(capsule_body()["posedirs"])}
    model = BodyModel(arrays=arrays, dtype=torch.float64)
    pose = identity_pose(1)
    pose["body_pose"] = pose["body_pose"].clone()
    pose["body_pose"][0, 17] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    moved = (model(**pose).vertices[0] - model.v_template).norm(dim=1).numpy() > 1e-9
    beyond = arrays["weights"][:, [18, 20, 22]].sum(1) > 0
    assert moved.any() and not (moved & ~beyond).any()


def test_gradients_are_right_in_double_precision(model):
    point = random_pose(1, seed=2)
    probe = torch.randn(17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(betas, body_pose, global_orient, transl):
        output = model(betas=betas, body_pose=body_pose, global_orient=global_orient, transl=transl)
        return (output.joints_h36m[0] * probe).sum() + output.vertices[0, ::200].square().sum()

    assert torch.autograd.gradcheck(
        score, tuple(v.clone().requires_grad_() for v in point.values()), fast_mode=True
    )


def test_smplx_itself_loads_the_file_unchanged(body_file):
    arrays = read_body(body_file)
    theirs = SMPL(
        "", data_struct=Struct(**arrays), vertex_ids=dict.fromkeys(LANDMARKS, 0), dtype=torch.float64
    )
    torch.testing.assert_close(theirs().vertices[0], BodyModel.load(body_file, torch.float64).v_template)


def test_the_model_has_nothing_to_train_and_says_what_it_is(model):
    assert not [p for p in model.parameters() if p.requires_grad]
    assert model.meta["is_smpl"] is False


def broken(arrays: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    if kind == "lacks weights":
        return {k: v for k, v in arrays.items() if k != "weights"}
    if kind == "posedirs has shape":
        return {**arrays, "posedirs": arrays["posedirs"][..., :200]}
    if kind == "shapedirs holds NaN":
        shapedirs = arrays["shapedirs"].copy()
        shapedirs[3, 1, 2] = np.nan
        return {**arrays, "shapedirs": shapedirs}
    if kind == "f names a vertex":
        faces = arrays["f"].copy()
        faces[0, 0] = len(arrays["v_template"])
        return {**arrays, "f": faces}
    if kind == "kintree_table is not":
        tree = arrays["kintree_table"].copy()
        tree[0, 5] = 0
        return {**arrays, "kintree_table": tree}
    if kind == "meta is no JSON object":
        return {**arrays, "meta": np.array("capsule man")}
    return {**arrays, "weights": arrays["weights"] * 1.01}


KINDS = ("lacks weights", "posedirs has shape", "shapedirs holds NaN", "f names a vertex", "kintree_table is not",
         "rows of weights do not sum", "meta is no JSON object")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_body_ends_in_one_line(tmp_path, kind):
    path = tmp_path / "body.npz"
    np.savez(path, allow_pickle=False, **broken(capsule_body(), kind))
    with pytest.raises(DataError, match=kind) as caught:
        BodyModel.load(path)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "3.0", "null", "", "{'a': 1}", "[" * 10_000])
def test_meta_must_be_a_json_object(tmp_path, text):
    path = tmp_path / "body.npz"
    np.savez(path, allow_pickle=False, **{**capsule_body(), "meta": np.array(text)})
    with pytest.raises(DataError, match="meta is no JSON object"):
        BodyModel.load(path)


NO_ARCHIVES = (b"", b"no archive", b"PK\x03\x04 cut off", pickle.dumps({"v_template": [1.0]}))


@pytest.mark.parametrize("content", NO_ARCHIVES)
def test_a_file_that_is_no_archive_ends_in_one_line(tmp_path, content):
    path = tmp_path / "body.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"body\.npz: is no \.npz archive") as caught:
        BodyModel.load(path)
    assert "\n" not in str(caught.value) and "pickle" not in str(caught.value)


def test_a_damaged_compressed_body_is_named_or_read_whole(tmp_path):
    """Zeros over a kilobyte, wherever they fall: zlib's, zipfile's and numpy's errors all end in one line."""
    path = tmp_path / "body.npz"
    np.savez_compressed(path, allow_pickle=False, **capsule_body())
    whole = path.read_bytes()
    for start in np.linspace(0, len(whole) - 1000, 40, dtype=int).tolist():
        path.write_bytes(whole[:start] + bytes(1000) + whole[start + 1000 :])
        with pytest.raises(DataError, match=r"cannot be read|is no \.npz archive") as caught:
            read_body(path)
        assert "\n" not in str(caught.value)


def test_something_other_than_an_array_in_the_archive_is_named(tmp_path):
    path = write_capsule_body(tmp_path / "body.npz")
    arrays = {key: value for key, value in capsule_body().items() if key != "f"}
    np.savez(path, allow_pickle=False, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("f", "faces")
    with pytest.raises(DataError, match="f is no array"):
        read_body(path)


def test_a_truncated_body_file_ends_in_one_line(tmp_path, body_file):
    path = tmp_path / "body.npz"
    path.write_bytes(body_file.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"is no \.npz archive, or one cut short"):
        BodyModel.load(path)


def test_a_pickled_body_is_refused_unopened(tmp_path):
    path = tmp_path / "body.npz"
    np.savez(path, v_template=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="v_template cannot be read: damaged, or no plain array"):
        BodyModel.load(path)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(DataError, match=r"`dvc repro body`.*data/README\.md"):
        BodyModel.load(tmp_path / "none.npz")


def test_a_stage_with_a_broken_body_ends_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.symlink(ROOT / "data" / "motions", tmp_path / "data" / "motions")
    np.savez(
        tmp_path / "mine.npz", allow_pickle=False, **{**capsule_body(), "meta": np.array(json.dumps([1]))}
    )
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["body"] |= {"model": "mine.npz"}
    params["generate"] = []
    done = run_with(params, tmp_path, "synth")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: mine.npz: meta is no JSON object; ")
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["mine.npz", "params.yaml"]
