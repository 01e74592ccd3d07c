"""What every stage does around its own page: params, inputs, whole outputs, one-line errors, a log.

``python -m stages.NAME`` reads ``params.yaml`` in the current folder and takes its paths from
``geobody.paths``; ``--help`` prints them. This checkout's ``src/`` comes first on ``sys.path``:
with an editable install, ``dvc exp run --temp`` would else run the other checkout's code.
"""

import signal
import sys

if sys.argv[0] == "-m":  # python -m stages.NAME: nothing has begun, so Ctrl-C ends it, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import geobody  # noqa: E402

if Path(geobody.__file__).resolve().parents[1] != ROOT / "src":
    raise SystemExit(f"error: geobody was imported from {geobody.__file__}, not from {ROOT / 'src'}")

from geobody.stage import Job, run  # noqa: E402

__all__ = ["Job", "run"]
