"""The paths in a config: absolute before they leave the command, so that they mean the same in every process.

Ray's workers on other nodes, and those of a cluster that was started elsewhere, run in other folders.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

DATA = ("data.train_files", "data.val_files")
AGENT, MULTI_TURN = (f"actor_rollout_ref.rollout.{name}" for name in ("agent", "multi_turn"))
MANAGER = "reward.reward_manager"
MODEL = "actor_rollout_ref.model"
# Keys of a module (`pkg://module`) or a Python file, and the key of the name that is looked for in it.
MODULES_OR_FILES = {
    "reward.custom_reward_function.path": "reward.custom_reward_function.name",
    "data.custom_cls.path": "data.custom_cls.name",
    "data.sampler.class_path": "data.sampler.class_name",
    "trainer.v1.sampler.custom_sampler.path": "trainer.v1.sampler.custom_sampler.name",
    f"{AGENT}.custom_async_server.path": f"{AGENT}.custom_async_server.name",
}
CODE_FILES = (f"{AGENT}.agent_loop_config_path", f"{MULTI_TURN}.tool_config_path", f"{MULTI_TURN}.function_tool_path")
READ = (
    *DATA,
    *(f"{MODEL}.{name}" for name in ("path", "tokenizer_path", "hf_config_path", "lora_adapter_path")),
    "actor_rollout_ref.rollout.engine_kwargs.vllm.speculative_config.model",
    *MODULES_OR_FILES,
    f"{MANAGER}.module.path",
    *CODE_FILES,
    "trainer.resume_from_path",
)
WRITTEN = ("trainer.default_local_dir", "trainer.rollout_data_dir", "trainer.validation_data_dir")
FILE_PREFIX = "file://"


def make_absolute(config: DictConfig) -> None:
    """Make the paths of a config absolute. What is no path here, as a model's name on the hub, stays as it is."""
    for key in (*READ, *WRITTEN):
        found = OmegaConf.select(config, key)
        if isinstance(found, ListConfig):
            OmegaConf.update(config, key, [_absolute(key, path) for path in found], merge=False)
        elif found:
            OmegaConf.update(config, key, _absolute(key, found), merge=False)


def of(config: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """The absolute paths of files and folders at these keys of a config, each of which may hold none or several."""
    given = OmegaConf.create(dict(config))
    make_absolute(given)
    found = (OmegaConf.select(given, key) for key in keys)
    paths = [path for value in found for path in (value if isinstance(value, ListConfig) else [value])]
    return list(dict.fromkeys(path for path in paths if isinstance(path, str) and os.path.isabs(path)))


def _absolute(key: str, path: Any) -> Any:
    if not isinstance(path, str):
        return path
    plain = path.removeprefix(FILE_PREFIX)
    is_path = os.path.lexists(plain) or (key in WRITTEN and "://" not in path)
    return os.path.abspath(plain) if is_path else path
