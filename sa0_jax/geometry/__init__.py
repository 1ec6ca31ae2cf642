"""Rotations, in the conventions everything above shares."""
