"""Which data set a figure was measured on: the content hash of its crops, as ``dvc.lock`` records it."""

from ruamel.yaml import YAML


def crops_hash(lock: str) -> str:
    """The MD5 of the folder ``data/crops`` in the text of a ``dvc.lock``: all that trainings see of a data set.

    Raises KeyError if the lock records no crops.
    """
    outputs = YAML(typ="safe").load(lock)["stages"]["crops"]["outs"]
    hashes = {output["path"]: str(output["md5"]) for output in outputs}
    return hashes["data/crops"].removesuffix(".dir")
