"""Where every random number of a training comes from, and the Fabric that runs it."""

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy

from geobody.errors import ParamsError
from geobody.processes import this_process

PRECISIONS = ("bf16-mixed", "32-true")
DEVICES = ("cpu", "cuda")


def derived_seed(seed: int, *names: int | str) -> int:
    """Returns a seed in [0, 2**63) for one purpose, e.g. ``derived_seed(seed, "encdec", step)``.

    Names are hashed with CRC-32, numbers with splitmix64's mixing step, so that neighbouring seeds and
    steps give unrelated streams.
    """
    state = seed & 0xFFFFFFFFFFFFFFFF
    for name in names:
        word = zlib.crc32(name.encode()) if isinstance(name, str) else name
        state = _splitmix64(state ^ _splitmix64(word & 0xFFFFFFFFFFFFFFFF))
    return _splitmix64(state) >> 1


def _splitmix64(value: int) -> int:
    """Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), figure 16."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


@contextmanager
def seeded(seed: int, *names: int | str) -> Iterator[None]:
    """Runs its block with torch's global generators seeded, and restores them afterwards.

    Build networks inside it: ``with seeded(seed, "encdec"): net = EncoderDecoder(...)``.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, *names))
        yield


def make_fabric(*, precision: str, threads: int, device: str) -> Fabric:
    """Returns a Fabric with torch's threads pinned and its algorithms deterministic.

    ``precision`` is "bf16-mixed" or "32-true", ``device`` "cpu" or "cuda". All three change bits, so they
    are params. It runs on one device, or, in a process that ``torchrun`` started, on its own of those of all
    processes. Raises ``ParamsError`` for another name and for a GPU that is not there.
    """
    if precision not in PRECISIONS:
        raise ParamsError(
            f"params.yaml: training.precision: value {precision!r}: one of {', '.join(PRECISIONS)}"
        )
    if device not in DEVICES:
        raise ParamsError(f"params.yaml: training.device: value {device!r}: one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ParamsError("params.yaml: training.device: value 'cuda': this machine has no GPU; use cpu")
    if device == "cuda":
        # cuBLAS needs a fixed workspace to repeat its sums; read when the first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling every fresh tensor with NaN finds reads of uninitialised memory, and costs 15 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # It announces the precision on every start; params.yaml says it already.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    process = this_process()
    if process.count == 1:
        return Fabric(accelerator=device, devices=1, precision=precision)  # type: ignore[arg-type]
    fabric = Fabric(
        accelerator=device,
        devices=process.local_count,
        num_nodes=process.count // process.local_count,
        strategy=DDPStrategy(process_group_backend="gloo" if device == "cpu" else None),
        plugins=[TorchElasticEnvironment()],
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric
