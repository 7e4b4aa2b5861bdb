"""The ablations, as a Hydra config group: `--ablation NAME` is `+ablations=[NAME]`."""
