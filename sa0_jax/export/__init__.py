"""Avatars in formats other programs open."""
