"""Metrics files that ``dvc metrics diff`` can compare: rounded, sorted, without NaN and lists."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIGNIFICANT_DIGITS = 6


def write_json(path: Path, metrics: Mapping[str, Any]) -> None:
    """Writes nested ``metrics`` to ``path``.

    Floats are rounded to six significant digits, keys are sorted. Raises ``ValueError`` with the
    key's name on NaN, infinity or a list, which DVC cannot compare.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_clean(metrics, ()), indent=2, sort_keys=True) + "\n")


def _clean(value: Any, key: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _clean(item, (*key, str(name))) for name, item in value.items()}
    if isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return _clean(value.item(), key)
    if not isinstance(value, float):
        raise ValueError(f"metric {'.'.join(key)}: {type(value).__name__} cannot be compared by dvc metrics")
    if not math.isfinite(value):
        raise ValueError(f"metric {'.'.join(key)}: {value} is not finite")
    return 0.0 if value == 0 else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
