"""Decimation keeps what the body needs: subsets, closed, mirrored, near the surface."""

from collections import Counter

import numpy as np
import pytest

from geobody.body.decimation import decimate
from geobody.body.evaluation import point_triangle_distance, surface_distance


def sphere(rings: int = 21, segments: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed ellipsoid that is mirror symmetric in x, with its mirror permutation."""
    polar = np.pi * np.arange(1, rings + 1) / (rings + 1)
    angle = 2 * np.pi * np.arange(segments) / segments
    grid = np.stack([
        np.sin(polar)[:, None] * np.sin(angle), np.broadcast_to(np.cos(polar)[:, None], (rings, segments)),
        np.sin(polar)[:, None] * np.cos(angle),
    ], axis=-1).reshape(-1, 3)  # fmt: skip
    points = np.concatenate([grid, [[0, 1, 0], [0, -1, 0]]]) * (0.2, 0.5, 0.3)
    other = (-np.arange(segments)) % segments
    mirror = np.concatenate(
        [(np.arange(rings)[:, None] * segments + other).ravel(), [len(grid), len(grid) + 1]]
    )
    points = (points + points[mirror] * (-1, 1, 1)) / 2
    faces = []
    for s in range(segments):
        t = (s + 1) % segments
        faces += [(len(grid), s, t), (len(grid) + 1, (rings - 1) * segments + t, (rings - 1) * segments + s)]
        for r in range(rings - 1):
            a, b, c, d = r * segments + s, r * segments + t, (r + 1) * segments + t, (r + 1) * segments + s
            # The diagonal flips with the side, so that the faces are symmetric too.
            faces += [(a, d, c), (a, c, b)] if s < segments // 2 else [(a, d, b), (b, d, c)]
    return points, np.array(faces), mirror


@pytest.fixture(scope="module")
def levels():
    points, faces, mirror = sphere()
    return points, faces, mirror, decimate(points, faces, mirror, sizes=(300, 151, 76))


def test_sizes_are_met_and_nested(levels):
    *_, out = levels
    kept = [set(ids.tolist()) for ids, _ in out]
    assert [len(ids) for ids in kept] == [300, 151, 76]
    assert kept[2] < kept[1] < kept[0]


def test_meshes_stay_closed_and_mirrored(levels):
    _, _, mirror, out = levels
    for ids, faces in out:
        edges = Counter((int(a), int(b)) for t in faces for a, b in zip(t, np.roll(t, -1), strict=True))
        assert set(edges.values()) == {1} and all((b, a) in edges for a, b in edges)
        assert len(faces) == 2 * len(ids) - 4
        ours = {tuple(np.roll(t, -t.argmin())) for t in faces}
        assert ours == {tuple(np.roll(t, -t.argmin())) for t in mirror[faces][:, ::-1]}


def test_the_surface_stays_near(levels):
    points, _, _, out = levels
    for (ids, faces), limit in zip(out, (0.004, 0.008, 0.016), strict=True):
        position = np.full(len(points), -1)
        position[ids] = np.arange(len(ids))
        assert surface_distance(points, points[ids], position[faces]).mean() < limit


def test_point_triangle_distance_meets_a_dense_sampling():
    rng = np.random.default_rng(0)
    p, a, b, c = rng.normal(size=(4, 30, 3))
    u, v = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    inside = u + v <= 1
    u, v = u[inside][:, None], v[inside][:, None]
    brute = [
        np.linalg.norm(a[i] + u * (b[i] - a[i]) + v * (c[i] - a[i]) - p[i], axis=1).min() for i in range(30)
    ]
    np.testing.assert_allclose(point_triangle_distance(p, a, b, c), brute, atol=0.01)
