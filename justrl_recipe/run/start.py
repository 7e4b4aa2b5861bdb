"""Starts a training process, follows it, ends everything that belongs to it, and checks what it has done."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from justrl_recipe import masking, processes
from justrl_recipe.errors import UserError
from justrl_recipe.metrics import REWARD, VALIDATION_PREFIX
from justrl_recipe.run import log, manifest
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.run.progress import Progress
from justrl_recipe.run.provenance import provenance

GRACE = 5.0  # seconds for Ray and vLLM to end by themselves
IMPORTED = "justrl: imported "  # of verl_hooks/reward.py, before the files as JSON
IMPORT_LIMIT = 300.0  # seconds for a reward file's own imports
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray 2.60's switch for a cluster of one machine, which uses 127.0.0.1
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "VLLM_HOST_IP": "127.0.0.1",
}


class TrainingFailed(Exception):
    """A training process ended with an error, or before its last step; the text says why."""


def run(config: Mapping[str, Any], folder: RunFolder, about: Mapping[str, Any], verbose: bool) -> None:
    """Train with a resolved config and show each step until the training process has ended.

    Args:
        config: its `default_local_dir` is where checkpoints go, and its loggers have `file`.

    Raises:
        TrainingFailed: it ended with an error, or without its last step, checkpoint or validation.
        KeyboardInterrupt: the user stopped it; nothing of it runs any more.
        UserError: the run folder cannot be written.
    """
    processes.adopt_orphans()
    try:
        shown, hidden = masking.masked_config(config)
        if hidden:
            folder.path.chmod(0o700)
        OmegaConf.save(OmegaConf.create(shown), folder.config)
        with (
            processes.stoppable(),
            manifest.manifest(folder.manifest, {**about, **provenance()}) as content,
            tempfile.TemporaryDirectory(prefix="justrl-", dir="/tmp", ignore_cleanup_errors=True) as scratch,
        ):
            env = environment(config, folder, scratch)
            returncode = _train(config, folder, env, hidden, content, verbose)
            if returncode != 0:
                raise TrainingFailed(f"{log.reason(folder.log, returncode)} (whole log: {folder.log})")
            if missing := unfinished(config, folder):
                content["status"] = manifest.INCOMPLETE
                raise TrainingFailed(f"{missing} (whole log: {folder.log})")
            content["status"] = manifest.FINISHED
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder.path}: {error.strerror}") from error


def _train(
    config: Mapping[str, Any],
    folder: RunFolder,
    env: Mapping[str, str],
    hidden: Sequence[tuple[masking.Path, Any]],
    content: dict[str, Any],
    verbose: bool,
) -> int:
    """Run the training process to its end and note in the manifest what it logged; its exit code.

    Args:
        hidden: the values that are masked in the config's file, which the process gets by its environment.
    """
    writer: threading.Thread | None = None
    try:
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if hidden else {}
        process = processes.start(
            "justrl_recipe.verl_hooks.train",
            *(str(folder.config), str(os.getpid())),
            log=folder.log,
            env={**env, masking.HIDDEN: json.dumps(hidden)},
            **piped,
        )
        if process.stdout:
            writer = threading.Thread(target=_write_masked, args=(process.stdout, folder.log), daemon=True)
            writer.start()
        Progress(folder, config, verbose).follow(process)
        return process.returncode
    finally:
        with processes.undisturbed():
            processes.end_descendants(GRACE)
            if writer:
                writer.join()
            content.update(logged(folder))


def _write_masked(source: IO[bytes], log: Path) -> None:
    """Write what a process prints to its log, without the secrets in it."""
    with source:
        with suppress(OSError), log.open("w", encoding="utf-8", buffering=1) as target:
            for line in source:
                target.write(masking.masked(line.decode(errors="replace")))
        for _ in source:  # the disk is full, which the process meets as well; it must not wait for a reader
            pass


def logged(folder: RunFolder) -> dict[str, Any]:
    """For the manifest: the last step that was logged, and how many responses were lost, validation included."""
    steps = [step for step, metrics in folder.steps() if REWARD in metrics]
    return {"last_step": max(steps, default=0), "lost_responses": sum(entry["lost"] for entry in folder.lost())}


def unfinished(config: Mapping[str, Any], folder: RunFolder) -> str | None:
    """What a training process that ended without an error has not done; None where it did everything.

    veRL 0.9.1 ends well when its epochs are over, whatever step it is at (verl/trainer/ppo/v1/trainer_base.py, fit).
    """
    trainer = config["trainer"]
    steps = dict(folder.steps())
    if trainer.get("val_only"):
        return None if any(map(_validated, steps.values())) else "it ended without the validation of trainer.val_only"
    wanted = trainer["total_training_steps"]
    last = max((step for step, metrics in steps.items() if REWARD in metrics), default=0)
    if last < wanted:
        return (
            f"it ended at step {last} of {wanted}: trainer.total_epochs={trainer['total_epochs']} over the rows of "
            "data.train_files gives no more; raise trainer.total_epochs or lower trainer.total_training_steps"
        )
    checkpoint = Path(trainer["default_local_dir"]) / f"global_step_{wanted}" / "actor"
    if trainer["save_freq"] > 0 and not (checkpoint.is_dir() and any(checkpoint.iterdir())):
        return f"it ended without its last checkpoint, {checkpoint.parent}"
    if trainer["test_freq"] > 0 and not _validated(steps.get(wanted, {})):
        return f"it ended without the validation of step {wanted}"
    return None


def _validated(metrics: Mapping[str, Any]) -> bool:
    return any(name.startswith(VALIDATION_PREFIX) for name in metrics)


@dataclass(frozen=True)
class Imported:
    """What importing a reward function showed: why it cannot be, and the user's files that it is made of."""

    error: str | None = None
    files: tuple[Path, ...] = ()


def import_reward(path: str | None, name: str) -> Imported:
    """Import a reward function of the user's own in a process of its own; one of this package is not tried.

    Args:
        path, name: `reward.custom_reward_function`'s.
    """
    if path is None or path.startswith("pkg://justrl_recipe."):
        return Imported()
    command = [sys.executable, "-m", "justrl_recipe.verl_hooks.reward", path, name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=IMPORT_LIMIT
        )
    except subprocess.TimeoutExpired:
        return Imported(f"{path} was still being imported after {IMPORT_LIMIT:.0f} seconds")
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        if line.startswith(IMPORTED):
            return Imported(files=tuple(map(Path, json.loads(line.removeprefix(IMPORTED)))))
    said = done.stderr.strip().splitlines()
    return Imported(said[-1] if said else f"importing {path} ended with exit code {done.returncode}")


def copy_code(files: Sequence[Path], folder: RunFolder) -> None:
    """Keep the reward function's files with the run, as they lie beside each other.

    Raises:
        UserError: the run folder cannot be written.
    """
    if not files:
        return
    beside = Path(os.path.commonpath([file.parent for file in files]))
    try:
        for file in files:
            target = folder.code / file.relative_to(beside)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        raise UserError(f"cannot copy {error.filename or files[0]} to {folder.code}: {error.strerror}") from error


def environment(config: Mapping[str, Any], folder: RunFolder, scratch: str) -> dict[str, str]:
    """The environment of the training process. Where the run starts a Ray cluster of its own, nothing of it listens
    on any address but loopback, and vLLM's server wants a key.

    Args:
        scratch: a short path for sockets and Ray's session, removed with the run: a Unix socket's path has at
            most 107 characters.
    """
    env = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "VERL_FILE_LOGGER_PATH": str(folder.metrics.absolute()),
        "TMPDIR": scratch,
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
    }
    if config["trainer"]["device"] == "cpu":
        env["VERL_PLATFORM"] = "cpu"
        env.pop("RAY_ADDRESS", None)  # a cluster's accelerators are not this machine's CPU
    if owns_cluster(config, env):
        env |= LOOPBACK | {"VLLM_API_KEY": secrets.token_urlsafe(32)}
    return env


def owns_cluster(config: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    """Whether the run starts a Ray cluster of its own, rather than joining one."""
    address = (config["ray_kwargs"].get("ray_init") or {}).get("address") or env.get("RAY_ADDRESS")
    return address in (None, "", "local")
