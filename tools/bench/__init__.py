"""Benchmarks: each module compares two things in one run, so that the machine's speed cancels out."""
