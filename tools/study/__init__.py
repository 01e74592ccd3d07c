"""The study: arms and controls with equal training, as DVC experiments, in one table."""
