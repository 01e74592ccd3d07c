"""Joints, skeletons, units, axes and the camera model: stated once, imported everywhere.

Frames
    world     Human3.6M's: right-handed, z up, millimetres in data files.
    camera    x right, y down, z forward (OpenCV), millimetres.
    crop      the virtual camera of a crop: origin at the same camera centre, axes as a camera,
              turned so that its optical axis meets the root.
    body      SMPL's rest frame: x to the body's left, y up, facing +z, metres.

Camera model
    x_cam = R_world_to_cam (X_world - centre_world), then x_px = f * x_cam / z_cam + c.
    ``T`` in Human3.6M's ``h36m_meta.mat`` is the camera *centre*, not the translation t of
    x_cam = R X + t.

Pixels
    Integer coordinates are pixel centres: the left edge of the image is at x = -0.5.

Rotations
    Matrices act on column vectors from the left. A name says what it maps: ``R_world_to_crop``.
    Axis-angle values are in radians.
"""

from typing import Final

H36M_JOINTS: Final = (
    "hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "spine", "neck", "head", "head_top", "left_shoulder", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
H36M_PARENTS: Final = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
H36M_MIRROR: Final = (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13)
H36M_ROOT: Final = 0

H36M_ACTIONS: Final = {
    2: "Directions", 3: "Discussion", 4: "Eating", 5: "Greeting", 6: "Phoning", 7: "Posing",
    8: "Purchases", 9: "Sitting", 10: "SittingDown", 11: "Smoking", 12: "Photo", 13: "Waiting",
    14: "Walking", 15: "WalkDog", 16: "WalkTogether",
}  # fmt: skip
TRAIN_SUBJECTS: Final = (1, 5, 6, 7, 8)
TEST_SUBJECTS: Final = (9, 11)
EVALUATION_SUBJECTS: Final = range(101, 1000)
"""Three-digit numbers: further bodies for evaluation alone, whatever subjects the params name."""

SMPL_JOINTS: Final = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2",
    "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar",
    "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
SMPL_PARENTS: Final = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
SMPL_MIRROR: Final = (
    0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22,
)  # fmt: skip
N_BETAS: Final = 10

MM_PER_M: Final = 1000.0
AWAY_DEG: Final = 120.0
"""A person who is turned by more than this from facing the camera has the back to it."""
CROP_SIDE_MM: Final = 2000.0
"""Side of the square around the root, at the root's depth, that a crop shows (method.md, 1)."""

WORLD_FROM_BODY: Final = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
"""Rotation that stands SMPL's rest pose (y up) upright in the world (z up): it then faces -y."""
