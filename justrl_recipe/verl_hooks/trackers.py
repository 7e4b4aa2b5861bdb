"""The trackers of a run (wandb, TensorBoard, MLflow, SwanLab, trackio): what they are told, and that none ends it.

veRL makes them (verl/utils/tracking.py, 0.9.1), each between `Trackers.before` and `after` (patches.guard_trackers).
They write to the run folder, and a resumed run continues under the id that it started with.
"""

import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from justrl_recipe import files, masking
from justrl_recipe.errors import first_line
from justrl_recipe.metrics import MANIFEST_FILE, TRACKER_FAILURES_FILE, TRACKERS_FILE
from justrl_recipe.terminal import warn

OURS = ("console", "file")  # what run/ reads: without them a run cannot be followed
SECONDS = 60.0  # for a call of a tracker, which may wait for a network
MOST_FAILURES = 3  # in a row, after which a tracker is not asked any more
RUN_IDS = ("WANDB_RUN_ID", "SWANLAB_RUN_ID")  # a user's own, kept for a resume
LONGEST_TAG = 64  # characters, wandb's limit
# Of the manifest, what names no machine.
SENT = (
    *("recipe", "origin", "system", "ablations", "is_justrl", "scaled", "deviations", "seed", "reward", "data"),
    *("versions", "git_commit", "package_sha256", "loss"),
)


class Trackers:
    """What the trackers of one run are told.

    Args:
        folder: the run folder.
        config: veRL's.
        shown: what is shown at the paths of its secrets.
    """

    def __init__(self, folder: Path, experiment: str, config: Mapping[str, Any], shown: Mapping[masking.Path, Any]):
        self.folder = folder
        manifest = files.read_json_object(folder / MANIFEST_FILE)
        self.manifest = masking.for_others({name: manifest[name] for name in SENT if name in manifest})
        self.config = {**masking.for_others(masking.replaced(config, shown)), "manifest": self.manifest}
        if proxy := config.get("trainer", {}).get("wandb_proxy"):
            os.environ.setdefault("WANDB_HTTPS_PROXY", proxy)
            self.config["trainer"] = {**self.config["trainer"], "wandb_proxy": None}
        given = experiment in (manifest.get("origin"), Path(str(manifest.get("recipe"))).stem)
        self.name = folder.name if given else masking.for_others(experiment)
        self.ids = files.read_json_object(folder / TRACKERS_FILE) if (folder / TRACKERS_FILE).is_file() else {}
        self.resumed = frozenset(self.ids)
        given_ids = (os.environ.get(name) for name in RUN_IDS)
        self._keep_id("run", self.ids.get("run") or next(filter(None, given_ids), secrets.token_hex(8)))

    @property
    def mlflow_here(self) -> str:
        """MLflow's address of a store in the run folder."""
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def tags(self) -> dict[str, str]:
        """The value of each deviation by its key."""
        changes = {one["key"]: json.dumps(one["yours"]) for one in self.manifest.get("deviations", [])}
        return {"is_justrl": str(self.manifest.get("is_justrl")).lower(), **changes}

    def set_environment(self) -> None:
        """Where trackers write, how they resume, and what they keep to themselves; the user's variables stay."""
        short = [f"{key.rpartition('.')[2]}={value}" for key, value in self.tags.items()]
        tags = [tag.replace(",", ";")[:LONGEST_TAG] for tag in short]  # both split at commas
        run, folder = self.ids["run"], str(self.folder)
        for name, value in {
            "WANDB_DIR": folder,
            "WANDB_RUN_ID": run,
            "WANDB_RESUME": "allow",
            "WANDB_TAGS": ",".join(tags),
            **dict.fromkeys(("WANDB__DISABLE_META", "WANDB__DISABLE_MACHINE_INFO", "WANDB_DISABLE_GIT"), "true"),
            "WANDB_CONSOLE": "off",
            "TENSORBOARD_DIR": f"{folder}/tensorboard",
            "MLFLOW_TRACKING_URI": self.mlflow_here,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "SWANLAB_LOG_DIR": f"{folder}/swanlog",
            "SWANLAB_RUN_ID": run,
            "SWANLAB_RESUME": "allow",
            "SWANLAB_TAGS": ",".join(tags),
            "SWANLAB_INTERACTIVE": "false",
            "SWANLAB_TERMINAL_PROXY_TYPE": "none",
            "SWANLAB_PROBE_RUNTIME": "false",
            "SWANLAB_PROBE_GIT": "false",
            "TRACKIO_DIR": f"{folder}/trackio",
        }.items():
            os.environ.setdefault(name, value)

    def config_for(self, tracker: str) -> dict[str, Any] | None:
        """The config of a tracker; None for a resumed run in MLflow, which refuses another value of a parameter."""
        return None if tracker == "mlflow" and tracker in self.resumed else self.config

    def before(self, tracker: str, project: str) -> None:
        """What veRL does not do before it makes a tracker."""
        if tracker == "trackio":
            import trackio

            trackio.init(project=project, name=self.name, config=self.config, resume="allow", embed=False)
        if tracker == "mlflow" and "MLFLOW_RUN_ID" not in os.environ:
            if tracker not in self.ids:
                self._keep_id(tracker, self._mlflow_run(project))
            os.environ["MLFLOW_RUN_ID"] = self.ids[tracker]

    def after(self, tracker: str, made: Any) -> None:
        """What veRL does not do once it has made a tracker."""
        if tracker == "tensorboard" and "run" not in self.resumed:
            text = json.dumps({"manifest": self.manifest, "tags": self.tags}, indent=2)
            made.writer.add_text("manifest", "".join(f"    {line}\n" for line in text.splitlines()))

    def _mlflow_run(self, project: str) -> str:
        """A new run in MLflow without the user's name and the path of the program, which MLflow itself would add."""
        from mlflow import MlflowClient

        uri = os.environ["MLFLOW_TRACKING_URI"]
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(project)
        here = f"{self.folder}/mlruns" if uri == self.mlflow_here else None
        where = experiment.experiment_id if experiment else client.create_experiment(project, artifact_location=here)
        return client.create_run(where, run_name=self.name, tags=self.tags).info.run_id

    def _keep_id(self, name: str, value: str) -> None:
        if self.ids.get(name) != value:
            self.ids[name] = value
            files.write_json(self.folder / TRACKERS_FILE, self.ids)


class Guarded:
    """A tracker in a thread of its own, since some know their run by the thread; whatever it does, the run continues.

    Its first failure is printed and written to TRACKER_FAILURES_FILE, from which `verl run` shows it.
    """

    def __init__(self, name: str, folder: Path, make: Callable[[], Any]):
        self.name, self.folder = name, folder
        self.failures, self.hidden, self.hangs = 0, False, False
        self.thread = ThreadPoolExecutor(1, name)
        if name == "mlflow":
            logging.getLogger("verl.utils.tracking").addHandler(Hidden(self))
        self.tracker = self.call(make)

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What a function returns in the tracker's thread, None where it fails or an earlier call has not ended."""
        if self.hangs:
            return None
        self.hidden = False
        future = self.thread.submit(function, *arguments, **named)
        if not wait([future], SECONDS).done:
            self.record(f"no answer in {SECONDS:.0f} seconds")
            self.hangs = True
            return None
        try:
            found = future.result()
        except (Exception, SystemExit) as error:  # a tracker raises anything
            self.record(f"{type(error).__name__}: {first_line(error)}")  # type: ignore[arg-type]
            self.failures += 1
        else:
            self.failures = self.failures + 1 if self.hidden else 0
            return found
        return None

    def log(self, data: Mapping[str, Any], step: int) -> None:
        if self.is_used:
            self.call(self.tracker.log, data=data, step=step)

    def finish(self, **named: Any) -> None:
        if self.tracker is not None:
            self.call(self.tracker.finish, **named)

    @property
    def is_used(self) -> bool:
        return self.tracker is not None and self.failures < MOST_FAILURES

    def record(self, why: str) -> None:
        """Print a failure and write it down, unless one is."""
        file = self.folder / TRACKER_FAILURES_FILE
        known = file.read_text() if file.is_file() else ""
        entry = json.dumps({"tracker": self.name, "error": masking.masked(why)})
        if f'{{"tracker": "{self.name}",' not in known:
            warn(f"tracker {self.name} failed, the run continues: {masking.masked(why)}")
            with suppress(OSError):  # a full disk
                file.write_text(f"{known}{entry}\n")


class Hidden(logging.Handler):
    """Hears of the failures of MLflow that veRL's adapter only logs."""

    def __init__(self, tracker: Guarded):
        super().__init__(logging.WARNING)
        self.tracker = tracker

    def emit(self, record: logging.LogRecord) -> None:
        if "failed" in record.msg:
            self.tracker.hidden = True
            self.tracker.record(record.getMessage())
