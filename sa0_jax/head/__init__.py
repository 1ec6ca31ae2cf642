"""FLAME-format heads: the model, its files, posing, landmarks and UV layout."""
