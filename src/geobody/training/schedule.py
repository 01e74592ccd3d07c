"""How long a training is, how much each step takes and how fast it learns. Without torch: the params build it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Steps, batches and learning rates of a training with AdamW; names as in ``params.yaml``."""

    steps: int
    """Length of the training."""
    batch_size: int
    """Items in a step, of all processes together: images, embeddings or poses, as each training says."""
    learning_rate: float | Mapping[str, float]
    """Peak of the learning rate: of every group of parameters, or by the group's name."""
    weight_decay: float
    """AdamW's decay; biases and norms have none."""
    warmup_steps: int
    """Steps in which the learning rate rises; fewer than ``steps``."""
    clip_norm: float
    """Largest norm of the gradient of a group."""

    def learning_rate_at(self, step: int, *, group: str) -> float:
        """The rate of ``step``: linear from peak / warmup_steps to the peak, then a half cosine to 0."""
        rates = self.learning_rate
        peak = rates[group] if isinstance(rates, Mapping) else rates
        if step < self.warmup_steps:
            return peak * (step + 1) / self.warmup_steps
        falling = max(1, self.steps - self.warmup_steps)
        return peak * 0.5 * (1.0 + math.cos(math.pi * (step - self.warmup_steps) / falling))
