"""Starts a training process, follows it, and ends everything that belongs to it."""

import json
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from justrl_recipe import masking, processes
from justrl_recipe.errors import UserError
from justrl_recipe.run import log, manifest, stop, watch
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.run.progress import Progress
from justrl_recipe.run.provenance import provenance

GRACE = 5.0  # seconds for Ray and vLLM to shut down
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray 2.60's switch for a cluster of one machine, which uses 127.0.0.1
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "VLLM_HOST_IP": "127.0.0.1",
}
START = {
    "RAY_worker_register_timeout_seconds": "600",  # imports from a cold disk take longer than Ray's 60
    # veRL 0.9.1 turns this cache off: vLLM's engines that started together corrupted it (vllm#31199). Since 2.10,
    # torch writes its files atomically (pytorch#162432).
    "VLLM_DISABLE_COMPILE_CACHE": "0",
}


class TrainingFailed(Exception):
    """A training process ended with an error, or before its last step; the text says why."""


class StoppedOnRequest(Exception):
    """A run stopped before its last step as it was asked to; the text says by what and after which step."""


@dataclass(frozen=True)
class Options:
    """How an attempt is watched.

    verbose: show veRL's own log.
    stop_at: by time.monotonic(), when it saves and stops; the same for every restart.
    skipped: the names of the checks that are skipped.
    cluster: the variables with which the run joins a Ray cluster; empty where it starts one of its own.
    """

    verbose: bool = False
    stop_at: float | None = None
    skipped: Collection[str] = ()
    cluster: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Begin:
    """Where an attempt begins: the step and the checkpoint that it resumes from, and whether it validates first."""

    step: int = 0
    checkpoint: Path | None = None
    validate: bool = False


def run(
    config: Mapping[str, Any],
    folder: RunFolder,
    about: Mapping[str, Any],
    options: Options,
    begin: Begin,
    meanwhile: Callable[[], None],
) -> None:
    """Train with a resolved config and show each step until the training process has ended.

    Args:
        config: its `default_local_dir` is where checkpoints go, and its loggers have `file`.
        about: for the manifest, which is written again with what `meanwhile` adds to it.
        meanwhile: what is left to check while the training process imports veRL; what it raises ends that.

    Raises:
        TrainingFailed: it ended with an error, or without its last step, checkpoint or validation; or it hung.
        StoppedOnRequest: it saved and stopped; a resume continues.
        KeyboardInterrupt: the user ended it at once; nothing of it runs any more.
        UserError: the run folder cannot be written, or another process trains in it.
    """
    processes.adopt_orphans()
    try:
        hidden = _write_config(config, folder)
        with (
            processes.stoppable(),
            manifest.manifest(folder.manifest, {**about, **provenance(), "first_step": begin.step + 1}) as content,
            processes.scratch_folder() as scratch,
            stop.on_request(folder, options.stop_at) as request,
        ):
            env = environment(config, folder, scratch, options.cluster)
            watching = watch.Watch(folder, config)
            returncode = _train(config, folder, env, hidden, content, options, request, begin, watching, meanwhile)
            if returncode != 0:
                reason = log.reason(folder.log, returncode, watching.lost_server())
                raise TrainingFailed(f"{reason} (whole log: {folder.log})")
            missing = log.unfinished(config, folder)
            if missing and request.by:
                content["status"] = manifest.STOPPED
                raise StoppedOnRequest(f"by {request.by} after step {content['last_step']}")
            if missing:
                content["status"] = manifest.INCOMPLETE
                raise TrainingFailed(f"{missing} (whole log: {folder.log})")
            content["status"] = manifest.FINISHED
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder.path}: {error.strerror}") from error


def _write_config(config: Mapping[str, Any], folder: RunFolder) -> list[tuple[masking.Path, Any]]:
    """Write the config with its secrets masked, and return these; with secrets the folder is the user's alone."""
    shown, hidden = masking.masked_config(config)
    if hidden:
        folder.path.chmod(0o700)
    OmegaConf.save(OmegaConf.create(shown), folder.config)
    return hidden


def _train(
    config: Mapping[str, Any],
    folder: RunFolder,
    env: Mapping[str, str],
    hidden: Sequence[tuple[masking.Path, Any]],
    content: dict[str, Any],
    options: Options,
    request: stop.StopRequest,
    begin: Begin,
    watching: watch.Watch,
    meanwhile: Callable[[], None],
) -> int:
    """Run the training process to its end and note in the manifest what it logged; its exit code.

    Args:
        hidden: the values that are masked in the config's file, which the process gets by its environment.

    Raises:
        TrainingFailed: a process that it needs has died, or it hangs.
        StoppedOnRequest: it was asked to stop before it had made a step.
    """
    writer: threading.Thread | None = None
    try:
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if hidden else {}
        process = processes.start(
            *("justrl_recipe.run.guard", str(os.getpid()), env["TMPDIR"]),
            *("justrl_recipe.verl_hooks.train", str(folder.config)),
            *((str(begin.checkpoint.absolute()), str(int(begin.validate))) if begin.checkpoint else ()),
            log=folder.log,
            env={**env, masking.HIDDEN: json.dumps(hidden)},
            **piped,
        )
        if process.stdout:
            writer = threading.Thread(target=log.write_masked, args=(process.stdout, folder.log), daemon=True)
            writer.start()
        meanwhile()
        manifest.write(folder.manifest, content)
        for steps in Progress(folder, config, options.verbose).follow(process):
            watching.logged(steps)
            if request.made() and not watching.trained:
                content["status"] = manifest.STOPPED
                raise StoppedOnRequest(f"by {request.by} before the first step of this attempt")
            if "hang" not in options.skipped and (problem := watching.problem()):
                watch.print_stacks()
                raise TrainingFailed(f"{problem} (whole log: {folder.log})")
        return process.returncode
    finally:
        with processes.undisturbed():
            processes.end_descendants(GRACE)
            if writer:
                writer.join()
            content.update(log.logged(folder))


def environment(
    config: Mapping[str, Any], folder: RunFolder, scratch: str, cluster: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the training process. Where the run starts a Ray cluster of its own, nothing of it listens
    on any address but loopback, vLLM's server wants a key, and the next run finds what torch and vLLM have compiled.

    Args:
        scratch: a short path for sockets and Ray's session, removed with the run: a Unix socket's path has at
            most 107 characters.
        cluster: as in `Options`.
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
    if cluster:
        return {**env, **cluster}
    env.pop("RAY_ADDRESS", None)
    cache = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    compiled = {
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torchinductor",  # torch's own place is in TMPDIR
        # Triton's own place, where torch has one for each of vLLM's graphs.
        "TRITON_CACHE_DIR": os.path.expanduser("~/.triton/cache"),
        "FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED": "1",
        "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": f"{cache}/flash_attention_4",  # its own place is in TMPDIR
    }
    return START | compiled | env | LOOPBACK | {"VLLM_API_KEY": secrets.token_urlsafe(32)}
