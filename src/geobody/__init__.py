"""3D human pose and SMPL bodies from single images, learned from unlabelled views."""
