"""What veRL's trainer would trip over, ignore, or not be able to resume from."""

import difflib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from justrl_recipe.checks.problem import Problem
from justrl_recipe.checks.rewards import OUR_SAMPLER
from justrl_recipe.config import Config

# verl/utils/tracking.py (veRL 0.9.1), with the package that each tracker imports.
TRACKERS = {
    "console": None,
    "file": None,
    "wandb": "wandb",
    "tracking": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "vemlp_wandb": "volcengine_ml_platform",
    "tensorboard": "tensorboard",
    "clearml": "clearml",
    "trackio": "trackio",
    "rl_insight": "rl_insight",
}
RESUME_MODES = ("disable", "auto", "resume_path")
NEEDED_TO_RESUME = ("model", "optimizer", "extra")


def problems(config: Config, base: Config) -> Iterator[Problem]:
    yield from another_trainer(config)
    yield from critic_warmup(config)
    yield from trackers(config)
    yield from resume(config, base)
    yield from checkpoints(config)


def another_trainer(config: Config) -> Iterator[Problem]:
    """The trainers that `verl run` does not start, or that the recipe's sampler does not go with."""
    trainer = config.values["trainer"]
    if trainer["use_v1"] is not True:
        why = "`verl run` starts veRL's v1 trainer alone"
        yield Problem("trainer", "trainer.use_v1", why, "set trainer.use_v1=true")
    if trainer["v1"]["trainer_mode"] != "sync" and trainer["v1"]["sampler"]["custom_sampler"]["path"] == OUR_SAMPLER:
        why = f"{trainer['v1']['trainer_mode']} needs veRL's own sampler, the recipe's is synchronous"
        fix = "set trainer.v1.trainer_mode=sync, or trainer.v1.sampler.custom_sampler.path=null"
        yield Problem("trainer", "trainer.v1.trainer_mode", why, fix)


def critic_warmup(config: Config) -> Iterator[Problem]:
    """veRL 0.9.1 holds the actor back for `critic_warmup` steps, also where there is no critic."""
    steps = config.values["trainer"]["critic_warmup"]
    if steps:
        why = f"{steps} delays the actor by as many steps, and GRPO has no critic"
        yield Problem("critic-warmup", "trainer.critic_warmup", why, "set trainer.critic_warmup=0", "warning")


def trackers(config: Config) -> Iterator[Problem]:
    """Loggers that veRL does not know, and those whose package is not installed."""
    given = config.values["trainer"]["logger"]
    for name in [given] if isinstance(given, str) else given or []:
        if not isinstance(name, str) or name not in TRACKERS:
            close = difflib.get_close_matches(str(name), TRACKERS, n=1)
            fix = f"did you mean {close[0]!r}?" if close else f"give one of {', '.join(TRACKERS)}"
            yield Problem("logger", "trainer.logger", f"veRL has no tracker {name!r}", fix)
        elif (package := TRACKERS[name]) and find_spec(package) is None:
            why = f"{name} needs the package {package}, which is not installed"
            yield Problem("logger", "trainer.logger", why, f"install it, or remove {name}")


def resume(config: Config, base: Config) -> Iterator[Problem]:
    """A checkpoint to resume from that is not there, or would not restore everything."""
    trainer = config.values["trainer"]
    mode, path = trainer["resume_mode"], trainer["resume_from_path"]
    instead = "set trainer.resume_mode=resume_path and trainer.resume_from_path=RUN/checkpoints/global_step_N"
    if mode not in RESUME_MODES:
        yield Problem("resume", "trainer.resume_mode", f"no mode {mode!r}", f"give one of {', '.join(RESUME_MODES)}")
    elif mode == "auto" and trainer["default_local_dir"] == base.values["trainer"]["default_local_dir"]:
        why = "auto finds nothing to resume from in a new run folder, and would start from scratch"
        yield Problem("resume", "trainer.resume_mode", why, instead)
    elif mode == "resume_path":
        yield from _checkpoint(str(path) if path else "", instead)
    if mode != "disable":
        loaded = config.values["actor_rollout_ref"]["actor"]["checkpoint"]["load_contents"] or []
        if missing := [part for part in NEEDED_TO_RESUME if part not in loaded]:
            key = "actor_rollout_ref.actor.checkpoint.load_contents"
            why = f"without {', '.join(missing)} the run would go on from another state than it was saved in"
            yield Problem("resume", key, why, "set it to [model,optimizer,extra]")


def _checkpoint(path: str, instead: str) -> Iterator[Problem]:
    """What veRL needs of a checkpoint (verl/trainer/ppo/v1/trainer_base.py, _load_checkpoint)."""
    key, folder = "trainer.resume_from_path", Path(path)
    if not path:
        yield Problem("resume", key, "no checkpoint is named", instead)
    elif not path.rpartition("global_step_")[2].isdecimal():
        yield Problem("resume", key, f"{path} does not end in global_step_N", instead)
    elif not (folder / "actor").is_dir() or not any((folder / "actor").glob("*.pt")):
        yield Problem("resume", key, f"{path} is no checkpoint: it has no actor/*.pt", instead)
    elif not (folder / "data.pt").is_file():
        why = f"{path} has no data.pt, so the data would start from the beginning"
        yield Problem("resume", key, why, "give a checkpoint that is whole")


def checkpoints(config: Config) -> Iterator[Problem]:
    """Ways of saving in which a checkpoint can be lost, or found no more."""
    trainer, saving = config.values["trainer"], config.values["actor_rollout_ref"]["actor"]["checkpoint"]
    if saving["async_save"]:
        why = "veRL 0.9.1 then never writes latest_checkpointed_iteration.txt, and nothing can be resumed"
        fix = "set actor_rollout_ref.actor.checkpoint.async_save=false"
        yield Problem("checkpoint", "actor_rollout_ref.actor.checkpoint.async_save", why, fix)
    if trainer["save_freq"] > 0 and trainer["max_actor_ckpt_to_keep"] == 1:
        why = "veRL 0.9.1 deletes the only checkpoint before the next is whole: a crash in between loses both"
        fix = "set trainer.max_actor_ckpt_to_keep=2 or more"
        yield Problem("checkpoint", "trainer.max_actor_ckpt_to_keep", why, fix, "warning")
