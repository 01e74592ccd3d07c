"""Body models in SMPL's file format: the open body and the official one behind one interface."""
