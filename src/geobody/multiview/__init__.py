"""Poses from several calibrated views of one instant: fused predictions, limbs fitted to silhouettes."""
