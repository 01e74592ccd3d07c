"""Cameras, crops as virtual cameras, and alignment of point sets."""
