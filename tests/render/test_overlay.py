"""The overlay covers what the body's silhouette covers, and nothing else."""

import numpy as np
import torch

from capsule_body import capsule_body
from geobody.geometry.cameras import Camera
from geobody.render.overlay import COLOUR, draw_over
from geobody.render.silhouettes import silhouettes

SIZE = 96
FOCAL = 200.0


def camera(width: int = SIZE, height: int = SIZE) -> Camera:
    return Camera(
        R_world_to_cam=np.eye(3), centre_world_mm=np.zeros(3), focal_px=np.full(2, FOCAL),
        principal_px=np.array([(width - 1) / 2, (height - 1) / 2]), width_px=width, height_px=height,
    )  # fmt: skip


def standing(depth_m: float = 4.5, right_m: float = 0.0) -> np.ndarray:
    """The capsule man upright before the camera, facing it."""
    return capsule_body()["v_template"] * (1, -1, -1) + (right_m, 0, depth_m)


def covered(picture: np.ndarray, ground: int) -> np.ndarray:
    return np.abs(picture.astype(int) - ground).max(-1) > 20


def test_it_covers_the_silhouette() -> None:
    faces = capsule_body()["f"].astype(np.int64)
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    drawn = draw_over(image, camera=camera(), vertices_m=standing(), faces=faces)
    vertices = torch.from_numpy(1000 * standing())[None]
    expected = silhouettes(vertices, faces, torch.tensor([FOCAL], dtype=torch.float64), SIZE)[0].numpy()
    found = covered(drawn, 255)
    assert found[expected > 0.9].all()
    assert not found[expected < 0.01].any()
    assert 300 < found.sum() < SIZE * SIZE / 2
    assert (image == 255).all()  # the picture that was given is left alone


def test_the_picture_shows_through_and_light_comes_from_the_camera() -> None:
    faces = capsule_body()["f"].astype(np.int64)
    middle = (SIZE // 2 - 4, SIZE // 2)  # the trunk, which looks at the camera
    drawn = [
        draw_over(np.full((SIZE, SIZE, 3), ground, np.uint8), camera=camera(), vertices_m=standing(), faces=faces,
                  opacity=0.5)[middle]
        for ground in (0, 200)
    ]  # fmt: skip
    np.testing.assert_allclose(drawn[1].astype(int) - drawn[0], 100, atol=1)
    lit = 0.5 * 255 * np.array(COLOUR)
    assert (drawn[0] > 0.8 * lit).all()
    assert (drawn[0] <= np.ceil(lit)).all()


def test_a_body_that_leaves_the_image_is_cut_and_one_behind_the_camera_is_not_drawn() -> None:
    faces = capsule_body()["f"].astype(np.int64)
    image = np.full((40, 120, 3), 255, np.uint8)
    drawn = draw_over(image, camera=camera(120, 40), vertices_m=standing(right_m=1.3), faces=faces)
    assert covered(drawn, 255)[:, 80:].any()
    assert not covered(drawn, 255)[:, :60].any()
    for away in (standing(right_m=50.0), standing(depth_m=-3.0)):
        assert np.array_equal(draw_over(image, camera=camera(120, 40), vertices_m=away, faces=faces), image)
