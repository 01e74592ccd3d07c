"""A body reduced to what its 17 regressed joints need, for losses that look at nothing else."""

import numpy as np

from geobody.body.model import N_JOINTS


def joints_only(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a body file whose ``joints`` and ``joints_h36m`` equal those of ``arrays`` everywhere.

    Keeps the vertices that J_regressor_h36m weighs, about a sixth, and puts 24 points in place of
    the others: the rest joints, which move with the betas as J_regressor would move them. Its
    mesh is one meaningless face.
    """
    kept = np.flatnonzero((arrays["J_regressor_h36m"] != 0).any(axis=0))
    regressor = arrays["J_regressor"]
    n = len(kept) + N_JOINTS

    def with_joints(key: str) -> np.ndarray:
        return np.concatenate((arrays[key][kept], np.einsum("jv,v...->j...", regressor, arrays[key])))

    picks = np.zeros((N_JOINTS, n))
    picks[:, len(kept) :] = np.eye(N_JOINTS)
    h36m = np.zeros((len(arrays["J_regressor_h36m"]), n))
    h36m[:, : len(kept)] = arrays["J_regressor_h36m"][:, kept]
    return arrays | {
        **{key: with_joints(key) for key in ("v_template", "shapedirs", "posedirs", "weights")},
        "J_regressor": picks,
        "J_regressor_h36m": h36m,
        "f": np.array([[0, 1, 2]], dtype=np.uint32),
        "landmarks": np.zeros_like(arrays["landmarks"]),
    }
