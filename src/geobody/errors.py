"""Errors that a user can cure: one line that names the file and what to do, and an exit code."""

from pathlib import Path


class GeobodyError(Exception):
    """Base of every error that ends a command in one line instead of a traceback."""

    exit_code = 1


class ParamsError(GeobodyError):
    """A value in ``params.yaml`` or on the command line is wrong (exit code 2)."""

    exit_code = 2


class DataError(GeobodyError):
    """An input is missing or broken (exit code 3).

    ``problem`` completes the sentence that begins with the file's name; ``cure`` says what to do.
    """

    exit_code = 3

    def __init__(self, path: Path | str, problem: str, cure: str) -> None:
        super().__init__(f"{path}: {problem}; {cure}")
        self.path = Path(path)
        self._parts = (path, problem, cure)

    def __reduce__(self) -> tuple[type["DataError"], tuple[Path | str, str, str]]:
        """Survives the way back from a worker process."""
        return type(self), self._parts
