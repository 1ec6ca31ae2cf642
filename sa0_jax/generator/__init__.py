"""The feed-forward generator: from a few source images to the Gaussians of an avatar."""
