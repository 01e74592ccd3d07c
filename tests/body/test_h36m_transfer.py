"""Human3.6M's joints carried over by proportion: near the open body's own, where these are known."""

import numpy as np

from geobody.body.h36m_transfer import find_extremes, transfer_regressor, transferred_joints
from geobody.body.open_body import OpenBody
from geobody.conventions import H36M_JOINTS
from smpl_pickle import smpl_sized


def test_on_the_open_body_the_joints_are_nearly_its_own(small_open_body: OpenBody) -> None:
    arrays = small_open_body.file_arrays(6890)
    rows, off_mm = transfer_regressor(arrays)
    joints, own = rows @ arrays["v_template"], arrays["J_regressor_h36m"] @ arrays["v_template"]
    assert 1000 * np.linalg.norm(joints - own, axis=1).max() < 20
    assert off_mm.mean() < 8
    place = dict(zip(H36M_JOINTS, joints, strict=True))
    assert 0.24 < np.linalg.norm(place["left_hip"] - place["right_hip"]) < 0.28
    assert 0.10 < np.linalg.norm(place["neck"] - place["head"]) < 0.14


def test_rows_are_sparse_shares_and_repeat_to_the_bit() -> None:
    rows, _ = transfer_regressor(smpl_sized())
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-12)
    assert ((rows > 0).mean(1) < 0.02).all()
    np.testing.assert_array_equal(transfer_regressor(smpl_sized())[0], rows)


def test_narrow_low_hips_of_a_rig_do_not_move_human36ms() -> None:
    """SMPL's hips lie closer together and lower than Human3.6M's: only proportions of the body count."""
    body = smpl_sized()
    template = body["v_template"]
    ends = find_extremes(template)
    joints = body["J_regressor"] @ template
    narrow = joints.copy()
    narrow[[1, 2], 0] *= 0.5
    narrow[[1, 2], 1] -= 0.05
    given = {"crown": template[ends.crown], "sole": template[ends.sole]}
    np.testing.assert_allclose(
        transferred_joints(narrow, **given), transferred_joints(joints, **given), atol=1e-12
    )


def test_the_body_stands_between_its_extremes() -> None:
    template = smpl_sized()["v_template"]
    ends = find_extremes(template)
    assert template[ends.sole, 1] == template[:, 1].min()
    assert template[ends.crown, 1] > np.quantile(template[:, 1], 0.99)
    assert abs(template[ends.crown, 0]) < 0.03
