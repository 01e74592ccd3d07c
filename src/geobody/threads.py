"""How many threads the libraries below a stage compute with, whatever the caller's environment says.

A sum that is split among threads is rounded in another order. Torch's own count is a param
(``training.threads``, set where a training starts); everything else computes with one.
"""

import os
from typing import Final

PINNED: Final = {
    "OMP_NUM_THREADS": "1",  # torch until its count is set, PyTorch3D
    "OMP_DYNAMIC": "FALSE",
    "OPENBLAS_NUM_THREADS": "1",  # numpy, SciPy
    "MKL_NUM_THREADS": "1",  # torch
    "MKL_DYNAMIC": "FALSE",  # else MKL takes fewer threads than it is told when it sees fewer cores
    "OPENCV_FOR_THREADS_NUM": "1",
    # How long a thread of torch's looks for work before it sleeps. On a busy machine the others have the core that it
    # looks on: 2.5 times as fast there, within the noise where nothing else runs (docs/decisions.md).
    "GOMP_SPINCOUNT": "10000",
}


def pin_threads() -> None:
    """Sets the variables that these libraries read when they load; worker processes inherit them.

    To be called before numpy, torch and OpenCV are imported.
    """
    os.environ.update(PINNED)
