"""Checkpoints for tests: the files of veRL's, with bytes of no meaning."""

from pathlib import Path

from justrl_recipe import checkpoints


def save(folder: Path, step: int, marked: bool = True) -> Path:
    """A checkpoint with a few files of known bytes."""
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    (checkpoint / "actor" / "model_world_size_1_rank_0.pt").write_bytes(bytes(range(200)) * step)
    (checkpoint / "actor" / "optim_world_size_1_rank_0.pt").write_bytes(b"optimizer" * 20)
    (checkpoint / "actor" / "fsdp_config.json").write_text('{"world_size": 1}')
    (checkpoint / "data.pt").write_bytes(b"order of the data")
    if marked:
        checkpoints.mark(checkpoint, {"critic/score/mean": 0.25})
    return checkpoint
