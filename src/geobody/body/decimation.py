"""Mirror-symmetric half-edge decimation: every smaller mesh is a subset of the vertices of the next larger.

A half-edge collapse moves one vertex onto a neighbour, so positions never change and every per-vertex
array of the full mesh carries over by indexing. Each collapse is done together with its mirror image.
The cost of a collapse is the squared distance to the planes that it leaves (Garland and Heckbert, 1997)
plus a term for long edges and one for thin triangles, without which limbs end in slivers.
"""

import heapq
from typing import Final

import numpy as np

EDGE_WEIGHT: Final = 3e-5
"""Weight of the squared length of a collapsed edge times the area it sweeps, beside the plane distance."""
THIN_WEIGHT: Final = 1e-4
"""Weight of the thinness of the new triangles times the area they cover."""
MIN_NORMAL_COSINE: Final = 0.2
"""A collapse may not turn a triangle by more than this."""


def decimate(
    vertices: np.ndarray, faces: np.ndarray, mirror: np.ndarray, *, sizes: tuple[int, ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of the decreasing ``sizes``: ids (size,) of the kept vertices, sorted, and faces (F, 3) in ids
    of the full mesh.

    ``vertices`` (V, 3) of a closed mesh, ``faces`` (F, 3), ``mirror`` (V,) the vertex on the other side
    (itself on the middle plane). The meshes stay closed and exactly mirror symmetric.
    """
    mesh = _Mesh(vertices, faces, mirror)
    out = []
    for size in sizes:
        mesh.collapse_to(size)
        out.append((mesh.kept(), mesh.faces()))
    return out


class _Mesh:
    def __init__(self, vertices: np.ndarray, faces: np.ndarray, mirror: np.ndarray) -> None:
        self.points = [tuple(p) for p in vertices.tolist()]
        self.mirror = mirror.tolist()
        self.triangles: dict[int, tuple[int, int, int]] = dict(enumerate(map(tuple, faces.tolist())))
        self.measures = {f: self.measure(triangle) for f, triangle in self.triangles.items()}
        self.around: list[set[int]] = [set() for _ in range(len(vertices))]
        for f, triangle in self.triangles.items():
            for v in triangle:
                self.around[v].add(f)
        self.count = len(vertices)
        self.quadrics = _vertex_quadrics(vertices, faces)
        self.stamp = [0] * len(vertices)
        self.heap: list[tuple[float, int, int, int, int]] = []
        for v in range(len(vertices)):
            for u in self.neighbours(v):
                self.push(v, u)

    def measure(self, triangle: tuple[int, int, int]) -> tuple[float, float, float, float, float]:
        a, b, c = triangle
        return _measure(self.points[a], self.points[b], self.points[c])

    def kept(self) -> np.ndarray:
        return np.array([v for v, fs in enumerate(self.around) if fs])

    def faces(self) -> np.ndarray:
        return np.array([self.triangles[f] for f in sorted(self.triangles)])

    def neighbours(self, v: int) -> list[int]:
        return sorted({u for f in self.around[v] for u in self.triangles[f]} - {v})

    def push(self, v: int, u: int) -> None:
        """Queues the collapse of v onto u; of the two mirror images only one is queued."""
        mv, mu = self.mirror[v], self.mirror[u]
        if (mv, mu) < (v, u) or (mv == v and mu != u) or mv == u:
            return
        cost = self.cost(v, u)
        if cost is not None:
            heapq.heappush(self.heap, (cost, v, u, self.stamp[v], self.stamp[u]))

    def cost(self, v: int, u: int) -> float | None:
        """Cost of moving v onto u, or None when a triangle would turn over."""
        target = self.points[u]
        x, y, z = target
        q = self.quadrics[v]
        plane = (
            q[0] * x * x + q[4] * y * y + q[7] * z * z + q[9]
            + 2 * (q[1] * x * y + q[2] * x * z + q[3] * x + q[5] * y * z + q[6] * y + q[8] * z)
        )  # fmt: skip
        thin = area = 0.0
        for f in self.around[v]:
            triangle = self.triangles[f]
            a2, nx, ny, nz, _ = self.measures[f]
            area += a2
            if u in triangle:
                continue
            new = [target if w == v else self.points[w] for w in triangle]
            b2, mx, my, mz, longest = _measure(*new)
            if nx * mx + ny * my + nz * mz < MIN_NORMAL_COSINE * a2 * b2 or b2 <= 1e-4 * longest:
                return None
            # Twice the area of an equilateral triangle is 0.866 of its longest edge squared.
            thin += b2 * (0.866 * longest / b2 - 1)
        px, py, pz = self.points[v]
        length2 = (px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2
        return max(plane, 0.0) + EDGE_WEIGHT * length2 * area + THIN_WEIGHT * thin * area

    def collapse_to(self, size: int) -> None:
        waiting = []
        while self.count > size:
            if not self.heap:
                raise RuntimeError(f"no symmetric collapse left at {self.count} vertices, asked for {size}")
            entry = heapq.heappop(self.heap)
            _, v, u, stamp_v, stamp_u = entry
            if not self.around[v] or self.stamp[v] != stamp_v or self.stamp[u] != stamp_u:
                continue
            mv, mu = self.mirror[v], self.mirror[u]
            if mv != v and self.count - size < 2:
                waiting.append(entry)  # a pair would overshoot: one vertex on the middle plane has to go
                continue
            if not self.allowed(v, u):
                continue
            if mv != v:
                near = set(self.neighbours(v))
                if mv in near or (mu != u and mu in near):
                    continue
                ring_u = (set(self.neighbours(u)) | near) - {v, u}
                if mu == u and (len(ring_u) < 5 or len(ring_u & set(self.neighbours(mv))) != 2):
                    continue
            touched = self.collapse(v, u)
            if mv != v:
                if not self.allowed(mv, mu):
                    raise RuntimeError("a collapse and its mirror image got in each other's way")
                touched |= self.collapse(mv, mu)
            for w in touched:
                self.stamp[w] += 1
            # Costs of w depend on its ring alone; who may move onto w depends on w's stamp.
            for w in sorted(touched):
                for n in self.neighbours(w):
                    self.push(w, n)
                    if n not in touched:
                        self.push(n, w)
        for entry in waiting:
            heapq.heappush(self.heap, entry)

    def allowed(self, v: int, u: int) -> bool:
        """The link condition: v and u share exactly the two vertices opposite to their edge."""
        ring_v, ring_u = set(self.neighbours(v)), set(self.neighbours(u))
        return u in ring_v and len(ring_v & ring_u) == 2 and len(ring_u) > 3

    def collapse(self, v: int, u: int) -> set[int]:
        touched = set(self.neighbours(v))
        for f in list(self.around[v]):
            triangle = self.triangles[f]
            if u in triangle:
                for w in triangle:
                    self.around[w].discard(f)
                del self.triangles[f]
            else:
                a, b, c = (u if w == v else w for w in triangle)
                self.triangles[f] = (a, b, c)
                self.measures[f] = self.measure((a, b, c))
                self.around[u].add(f)
        self.around[v] = set()
        self.quadrics[u] = tuple(p + q for p, q in zip(self.quadrics[u], self.quadrics[v], strict=True))
        self.count -= 1
        return touched


Point = tuple[float, float, float]


def _measure(a: Point, b: Point, c: Point) -> tuple[float, float, float, float, float]:
    """Twice a triangle's area, its normal of that length, and its longest edge squared."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    wx, wy, wz = ux - vx, uy - vy, uz - vz
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    longest = max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz, wx * wx + wy * wy + wz * wz)
    return (nx * nx + ny * ny + nz * nz) ** 0.5, nx, ny, nz, longest


def _vertex_quadrics(vertices: np.ndarray, faces: np.ndarray) -> list[tuple[float, ...]]:
    """Area-weighted plane quadrics, ten numbers a vertex: xx xy xz x yy yz y zz z 1."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    double_area = np.linalg.norm(normal, axis=1, keepdims=True)
    unit = normal / np.maximum(double_area, 1e-20)
    plane = np.concatenate([unit, -(unit * a).sum(1, keepdims=True)], axis=1)
    products = [plane[:, i] * plane[:, j] for i in range(4) for j in range(i, 4)]
    per_face = np.stack(products, axis=1) * double_area / 6
    total = np.zeros((len(vertices), 10))
    for i in range(3):
        np.add.at(total, faces[:, i], per_face)
    return [tuple(row) for row in total.tolist()]
