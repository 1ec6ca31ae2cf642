"""Driving an avatar by somebody else's motion."""
