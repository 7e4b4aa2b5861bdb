"""Our side of the process boundary: the run folder, its manifest, and the training process."""
