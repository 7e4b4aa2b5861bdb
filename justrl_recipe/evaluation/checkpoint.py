"""From what a user calls a model (a folder, a run, a veRL checkpoint, a name on the hub) to a Hugging Face folder."""

import hashlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from justrl_recipe.data import hub, schema
from justrl_recipe.errors import UserError
from justrl_recipe.run.log import errors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
MERGED = "merged"
HUGGINGFACE = "huggingface"  # where veRL's trainers save a model for others, in the folder of its step
STEP = re.compile(r"global_step_(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A model that vLLM can load: its folder, and what it is called in results and paths."""

    folder: Path
    name: str

    def fingerprint(self) -> str:
        """A hash of the weights and the tokenizer: whether two evaluations are of the same model."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.iterdir()):
            if file.suffix in (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt"):
                digest.update(f"{file.name} {schema.sha256(file)}\n".encode())
        return digest.hexdigest()


def find(model: str) -> Checkpoint:
    """The checkpoint that `model` names: a path where there is one, else a model on the Hugging Face hub.

    A run folder stands for its last checkpoint. A veRL checkpoint is merged first, beside its shards.

    Raises:
        UserError: there is no such model, or something of it is missing.
    """
    path = Path(model)
    if not path.exists():
        return _from_hub(model)
    if not path.is_dir():
        raise UserError(f"{model} is a file: give the model's folder")
    path = path.resolve()
    if path.name == MERGED and STEP.fullmatch(path.parent.name):
        path = path.parent
    if path.name == HUGGINGFACE and STEP.fullmatch(path.parent.parent.name):
        path = path.parent.parent
    if (path / "config.json").is_file():
        return _whole(Checkpoint(path, path.parent.name if path.name == HUGGINGFACE else path.name))
    if (path / "checkpoints").is_dir():
        path = _last_step(path / "checkpoints")
    if (path / "actor").is_dir():
        run = path.parent.parent.name
        return _whole(Checkpoint(merged(path), f"{run}-{path.name}" if run else path.name))
    raise UserError(f"{model} is no model folder (no config.json), no run folder and no veRL checkpoint (no actor/)")


def _last_step(checkpoints: Path) -> Path:
    steps = [
        folder for folder in checkpoints.iterdir() if STEP.fullmatch(folder.name) and (folder / "actor").is_dir()
    ]
    if not steps:
        raise UserError(f"{checkpoints} holds no checkpoint: trainer.save_freq says when one is written")
    return max(steps, key=lambda folder: int(folder.name.rpartition("_")[2]))


def _whole(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, once its weights and its tokenizer are there; transformers makes up a missing tokenizer."""
    folder = checkpoint.folder
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(f"{folder}: no weights (*.safetensors)")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
    return checkpoint


def merged(checkpoint: Path) -> Path:
    """The Hugging Face folder of a veRL checkpoint (global_step_N), made by veRL's merger where it is not there yet.

    It is there where the run's `checkpoint.save_contents` has `hf_model`. The merger stores bfloat16.

    Raises:
        UserError: the merger failed; with its error.
    """
    saved, target = checkpoint / "actor" / HUGGINGFACE, checkpoint / MERGED
    if any(saved.glob("*.safetensors")):
        return saved
    if target.is_dir():
        return target
    print(f"merging {checkpoint.name} into {target} (first use)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=checkpoint) as scratch:
        log = Path(scratch, "log")
        shards = [
            "--backend",
            "fsdp",
            "--local_dir",
            str(checkpoint / "actor"),
            "--target_dir",
            f"{scratch}/{MERGED}",
        ]
        with log.open("wb") as output:
            command = [sys.executable, "-m", "verl.model_merger", "merge", *shards]
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            found = errors(log) or [f"exit code {done.returncode}"]
            raise UserError(f"veRL cannot merge {checkpoint}: {found[-1]}")
        try:
            Path(scratch, MERGED).rename(target)
        except OSError:
            if not target.is_dir():  # else another evaluation has been faster
                raise
    return target


def _from_hub(name: str) -> Checkpoint:
    hub.require_name(name)
    from huggingface_hub import snapshot_download

    with hub.reaching(name, "give a local folder, or mend the name"):
        folder = snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"])
    return _whole(Checkpoint(Path(folder), name.rpartition("/")[2]))
