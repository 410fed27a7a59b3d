"""Torch networks, one file each, state-dict compatible with the projects that trained them."""
