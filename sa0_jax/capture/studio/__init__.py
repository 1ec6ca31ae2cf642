"""Synthetic subjects: procedural heads with skin and hair, lit and rendered as meshes."""
