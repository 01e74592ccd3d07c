"""Which data set a figure was measured on: the content hash of its crops, as ``dvc.lock`` records it."""

from typing import Final

from ruamel.yaml import YAML

FROZEN: Final = {
    "649dbe839a48dcdbfef06b4c642a4868": "AVX-512 without AMX (AMD EPYC)",
    "110152edb0a8cf8c4f787bf2b329989a": "the same with OPENBLAS_CORETYPE=Haswell",
    "55037388d6fd938293371958ada59510": "AMX and AVX-512",
}
"""The frozen data set, as the same code and params make it on kinds of processors: a few pixels differ, or only the
last bits of cameras (docs/reproducibility.md says how many, and how much that moves). The first is the one of the
committed dvc.lock."""


def crops_hash(lock: str) -> str:
    """The MD5 of the folder ``data/crops`` in the text of a ``dvc.lock``: all that trainings see of a data set.

    Raises KeyError if the lock records no crops.
    """
    outputs = YAML(typ="safe").load(lock)["stages"]["crops"]["outs"]
    hashes = {output["path"]: str(output["md5"]) for output in outputs}
    return hashes["data/crops"].removesuffix(".dir")


def same_data(one: str, other: str) -> bool:
    """Whether two hashes of crops are of one data set, whatever kind of processor made it."""
    return one == other or {one, other} <= FROZEN.keys()
