"""Types of this folder's fixtures."""

import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
Copy = Callable[..., Path]
