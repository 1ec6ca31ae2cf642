"""Training of the feed-forward generator."""
