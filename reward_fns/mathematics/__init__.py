"""How answers are spelled, read and compared, and what keeps a comparison from hanging a run."""
