"""Training data: prepared data sets of captures, and batches drawn from them."""
