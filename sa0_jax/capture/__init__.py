"""Captures: one convention for tracked frames, and everything that makes them."""
