"""The one place that touches anny: its mesh, its bones, its weights, and adults sampled from it.

Everything leaves in SMPL's axes (x to the body's left, y up, facing +z), metres, and exactly mirror
symmetric: anny's mesh has a mirror permutation, and every array is averaged with its own mirror image.
"""

import contextlib
import gzip
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

MIN_AGE_YEARS: Final = 18.0
MAX_AGE_YEARS: Final = 70.0
USED_TARGETS: Final = ("macrodetails", "height", "proportions", "breast")
"""Folders of anny's files of offsets behind its phenotypes."""
MIRROR: Final = np.array([-1.0, 1.0, 1.0])
MIRROR_TOLERANCE_M: Final = 1e-6


@dataclass(frozen=True)
class SourceMesh:
    """anny's mesh as it stands, before sampling: vertices (V, 3) of the middle adult in the artist's A-pose.

    ``faces`` (F, 3) outward; ``mirror`` (V,) the vertex on the other side; ``weights`` (V, bones);
    ``bone_names`` and ``bone_parents`` of the source rig.
    """

    vertices: np.ndarray
    faces: np.ndarray
    mirror: np.ndarray
    weights: np.ndarray
    bone_names: tuple[str, ...]
    bone_parents: tuple[int, ...]


@dataclass(frozen=True)
class SourceBodies:
    """Sampled adults in the artist's A-pose: vertices (N, V, 3) and bone heads (N, bones, 3), metres."""

    vertices: np.ndarray
    heads: np.ndarray


class AnnySource:
    """Loads anny's body (no network, no cache written) and samples adults from its shape distribution."""

    def __init__(self) -> None:
        self._model = _load_anny()
        model = self._model
        middle = _to_smpl_axes((model.template_vertices + self._offsets(None, None)[0]).numpy())
        faces = model.faces.numpy().astype(np.int64)
        self.bone_names: tuple[str, ...] = tuple(model.bone_labels)
        self._bone_mirror = np.array([self.bone_names.index(_other_side(n)) for n in self.bone_names])
        template = _to_smpl_axes(model.template_vertices.numpy())
        distance, mirror = cKDTree(template).query(template * MIRROR)
        if distance.max() > MIRROR_TOLERANCE_M or not (mirror[mirror] == np.arange(len(mirror))).all():
            raise RuntimeError("anny's mesh is not mirror symmetric: another version than the pinned one?")
        weights = np.zeros((len(middle), len(self.bone_names)))
        np.put_along_axis(weights, model.vertex_bone_indices.numpy(), 0.0, axis=1)
        rows = np.arange(len(middle))[:, None]
        np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.numpy())
        weights = (weights + weights[mirror][:, self._bone_mirror]) / 2
        self.mesh = SourceMesh(
            vertices=(middle + middle[mirror] * MIRROR) / 2,
            faces=faces,
            mirror=mirror,
            weights=weights / weights.sum(1, keepdims=True),
            bone_names=self.bone_names,
            bone_parents=tuple(int(p) for p in model.bone_parents),
        )

    def _offsets(self, phenotypes: dict[str, Tensor] | None, keep: np.ndarray | None) -> Tensor:
        coefficients = self._coefficients(phenotypes)
        used = (coefficients != 0).any(0)
        shapes = self._model.blendshapes[used]
        if keep is not None:
            shapes = shapes[:, torch.from_numpy(keep)]
        return (coefficients[:, used] @ shapes.flatten(1)).unflatten(1, (-1, 3))

    def _coefficients(self, phenotypes: dict[str, Tensor] | None) -> Tensor:
        model = self._model
        values = model._parse_parameter_kwargs(phenotypes, model.phenotype_labels, 0.5, "phenotypes")
        nothing = values.new_zeros(len(values), 0)
        return model._get_phenotype_blendshape_coefficients(values, nothing, nothing)

    def middle(self, *, keep: np.ndarray) -> SourceBodies:
        """One body, every phenotype at its middle: vertices (1, len(keep), 3)."""
        return self._bodies(None, keep)

    def sample(self, *, n: int, seed: int, keep: np.ndarray) -> SourceBodies:
        """``n`` adults of 18 to 70 years from anny's own distribution, at the vertices ``keep``.

        ``keep`` is closed under ``mesh.mirror``. The same seed gives the same bodies.
        """
        from anny.shape_distribution import SimpleShapeDistribution

        model = self._model
        ages = torch.distributions.Uniform(
            torch.tensor(MIN_AGE_YEARS, dtype=model.dtype), torch.tensor(MAX_AGE_YEARS, dtype=model.dtype)
        )
        distribution = SimpleShapeDistribution(model, morphological_age_distribution=ages)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, phenotypes = distribution.sample(n)
        return self._bodies(phenotypes, keep)

    def _bodies(self, phenotypes: dict[str, Tensor] | None, keep: np.ndarray) -> SourceBodies:
        model = self._model
        keep_mirror = np.argsort(keep)[np.searchsorted(np.sort(keep), self.mesh.mirror[keep])]
        vertices = model.template_vertices[torch.from_numpy(keep)] + self._offsets(phenotypes, keep)
        coefficients = self._coefficients(phenotypes)
        heads = model.template_bone_heads + torch.einsum(
            "nk,kbc->nbc", coefficients, model.bone_heads_blendshapes
        )
        return SourceBodies(
            vertices=_symmetrised(_to_smpl_axes(vertices.numpy()), keep_mirror),
            heads=_symmetrised(_to_smpl_axes(heads.numpy()), self._bone_mirror),
        )


def _symmetrised(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return (points + points[:, mirror] * MIRROR) / 2


def _to_smpl_axes(points: np.ndarray) -> np.ndarray:
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _other_side(name: str) -> str:
    return f"{name[:-1]}{'RL'['LR'.index(name[-1])]}" if name[-2:] in (".L", ".R") else name


def _load_anny() -> Any:
    import warp

    # Warp, which anny compiles two small kernels with, keeps them in the home folder unless told otherwise.
    warp.config.log_level = warp.LOG_ERROR
    scratch = tempfile.TemporaryDirectory(prefix="geobody-warp-")
    warp.config.kernel_cache_dir = scratch.name
    import anny
    import anny.paths

    cache = anny.paths._ANNY_CACHE_DIR[0]
    anny.paths._ANNY_CACHE_DIR[0] = None  # anny's own way to say: keep no cache (it is 790 MB)
    try:
        with warnings.catch_warnings(), _fast_target_reader():
            warnings.simplefilter("ignore")
            return anny.Anny(
                topology="notoes", phenotype_blendshapes="original", skinning_method="lbs"
            ).requires_grad_(False)
    finally:
        anny.paths._ANNY_CACHE_DIR[0] = cache
        scratch.cleanup()


@contextlib.contextmanager
def _fast_target_reader() -> Iterator[None]:
    """Lets numpy parse anny's text files of offsets: anny itself takes 55 s to read all 1,100 line by line.

    Those of local changes (noses, fingers), which anny reads and then drops, are not read at all.
    """
    import anny.models.full_model as full_model

    def read_needed(
        filename: str | Path, vertices_count: int, world_transformation: Any, dtype: torch.dtype
    ) -> Tensor:
        if Path(filename).parent.name in USED_TARGETS:
            return read_target(filename, vertices_count, world_transformation, dtype)
        return torch.zeros((vertices_count, 3), dtype=dtype)

    original = full_model.load_blend_shape
    full_model.load_blend_shape = read_needed
    try:
        yield
    finally:
        full_model.load_blend_shape = original


def read_target(
    filename: str | Path, vertices_count: int, world_transformation: Any, dtype: torch.dtype
) -> Tensor:
    """Offsets (V, 3) of one of anny's ``.target.gz`` files: lines of a vertex number and three numbers.

    A drop-in for anny's own reader, with its arguments, and with its numbers to the last bit.
    """
    with gzip.open(filename, "rb") as archive:
        table = np.array(archive.read().split(), dtype=np.float64).reshape(-1, 4)
    offsets = torch.zeros((vertices_count, 3), dtype=dtype)
    offsets[torch.from_numpy(table[:, 0].astype(np.int64))] = torch.from_numpy(table[:, 1:]).to(dtype)
    return world_transformation.apply(offsets)
