"""Our tracker: from a video or images to a Capture."""
