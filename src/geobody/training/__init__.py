"""One training loop, its checkpoints, its curves and its determinism."""
