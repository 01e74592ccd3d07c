"""Rasterisers: differentiable silhouettes and the textured scene of the synthetic set."""
