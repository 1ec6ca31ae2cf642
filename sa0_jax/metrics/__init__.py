"""Image metrics as the field computes them."""
