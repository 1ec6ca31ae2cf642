"""Per-subject refinement: photometric optimisation of an avatar on a Capture."""
