"""Configurations: base.py holds every number, the others its differences."""
