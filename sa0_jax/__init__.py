"""SpatialAvatar-0 for JAX."""
