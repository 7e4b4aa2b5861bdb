"""`verl export`: a checkpoint of a run as a model folder in Hugging Face's format, with a model card."""
