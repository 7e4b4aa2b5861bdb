"""veRL's synchronous trainer for long runs: whole checkpoints, a stop on request, an end at a bad step, and a sample
of the responses.

It meets run/ in the run folder: it looks for the file `stop` there, and leaves the batch of a bad step.
"""

import logging
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer
from verl.utils.seqlen_balancing import log_seqlen_unbalance

from justrl_recipe import checkpoints, files
from justrl_recipe.metrics import METRICS_FILE, RESPONSES_FILE, STOP_FILE, UNKEPT, best_first, validation_accuracy
from justrl_recipe.responses.selection import Selection
from justrl_recipe.verl_hooks import mini_batches
from justrl_recipe.verl_hooks.log_probs import RETURN_LOG_PROBS, has_log_probs
from justrl_recipe.verl_hooks.responses import Keeper

logger = logging.getLogger(__name__)
LOG_PROBS_EVERY = "actor_rollout_ref.rollout.custom.log_probs_every"
WATCHED = ("actor/loss", "actor/pg_loss", "actor/grad_norm", "actor/entropy")


class BadStepError(Exception):
    """A training step had a value that is not finite; nothing of it was saved."""


class Trainer(PPOTrainerSync):
    """Registered as `sync` in place of its base by verl_hooks/train.py.

    Environment: VERL_FILE_LOGGER_PATH is the metrics file, which lies in the run folder.
    """

    def __init__(self, config: DictConfig):
        self.keep = config.trainer.max_actor_ckpt_to_keep
        with open_dict(config):  # veRL would remove the oldest before it saves, and forget what it has after a resume
            config.trainer.max_actor_ckpt_to_keep = None
        super().__init__(config)
        self.run_folder = Path(os.environ["VERL_FILE_LOGGER_PATH"]).parent
        self.checkpoint_folder = Path(config.trainer.default_local_dir)
        self.saved_step = 0
        every = OmegaConf.select(config, LOG_PROBS_EVERY, default=1)  # a run of an earlier version has no such key
        self.log_probs_every = every if config.actor_rollout_ref.rollout.calculate_log_probs else None
        self.step_metrics: dict = {}
        self.marker = ThreadPoolExecutor(max_workers=1)
        self.marking: Future = self.marker.submit(int)  # of the last checkpoint; of none yet

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        prompts = self.config.get("keep_responses") or 0  # a run of an earlier version has no such key
        selection = Selection(prompts, self.total_training_steps)
        limit = self.config.data.max_response_length
        self.keeper = Keeper(selection, self.run_folder / RESPONSES_FILE, self.tokenizer, limit)
        self.replay_buffer.on_validation = self.keeper.take_validation
        try:
            super().fit(agent_loop_manager)
        finally:
            self.marking.result()

    def on_train_begin(self) -> None:
        self.first_step = self.global_steps
        super().on_train_begin()

    def on_step_begin(self) -> None:
        self.step_began = time.perf_counter()
        super().on_step_begin()

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        self.step_metrics = metrics
        self.step_batch = super().step(metrics, timing_raw)
        with marked_timer("keep_responses", timing_raw):
            self._keep(lambda: self.keeper.keep_batch(self.step_batch, self.global_steps))
        return self.step_batch

    def _has_log_probs(self) -> bool:
        """Whether vLLM returns the log-probs of this step's responses."""
        every = self.log_probs_every
        return every is not None and has_log_probs(self.global_steps, self.first_step, every)

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        """Tell the agent loops (extensions.py) whether to ask for log-probs."""
        tu.assign_non_tensor_data(batch, RETURN_LOG_PROBS, self._has_log_probs())
        return super()._submit_batch_to_rollout(batch)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """Compare them with vLLM's where the step has these."""
        self.config.actor_rollout_ref.rollout.calculate_log_probs = self._has_log_probs()
        return super()._compute_old_log_prob(batch, metrics)

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:  # type: ignore[override]
        """Spread each mini-batch evenly over the data-parallel ranks, where veRL spreads the batch as a whole."""
        group = self.actor_rollout_wg
        if "actor" not in group._dispatch_info:
            group._dispatch_info["actor"] = group._query_dispatch_info("actor")
        ranks = max(group._dispatch_info["actor"]) + 1
        multiple = self._get_required_batch_multiple(ranks)
        batch = upsample_batch_to_divisible_size(batch, multiple, self.tokenizer.eos_token_id)
        lengths = [tag["seq_len"] for tag in batch.tags]
        spread = mini_batches.shares(lengths, multiple, ranks)
        batch.reorder(list(chain.from_iterable(spread)))
        metrics.update(log_seqlen_unbalance(lengths, spread, prefix="global_seqlen"))
        return batch

    def on_validate_end(self) -> None:
        super().on_validate_end()
        self._keep(lambda: self.keeper.end_validation(self.global_steps))

    def _keep(self, write: Callable[[], None]) -> None:
        """Write responses; where that fails, note it and train on: nothing of what is learned is lost."""
        try:
            write()
        except OSError as error:
            logger.warning("responses of step %d are not kept: %s", self.global_steps, error)
            self.step_metrics[UNKEPT] = self.keeper.selection.prompts

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """Refuse advantages that are not finite before the update, and what the update shows after it.

        veRL's FSDP engine skips an update whose gradient is not finite, and goes on (veRL 0.9.1).
        """
        advantages = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages"])
        if not torch.isfinite(advantages["advantages"].values()).all():
            self._refuse(batch, "an advantage, and so a reward,")
        batch = super()._update_actor(batch, metrics)
        for name in WATCHED:
            if name in metrics and not math.isfinite(metrics[name]):
                self._refuse(batch, name)
        return batch

    def _refuse(self, batch: KVBatchMeta, what: str) -> None:
        """Keep the batch of the step and end the run."""
        kept = self.run_folder / f"bad_step_{self.global_steps}.pt"
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id)
        torch.save({"step": self.global_steps, "keys": batch.keys, "data": data}, kept)
        raise BadStepError(f"{what} of step {self.global_steps} is not finite: its batch is kept in {kept.name}")

    def _save_checkpoint(self) -> None:
        """Save; mark the checkpoint as whole, and only then remove older ones, while training goes on."""
        self.marking.result()
        checkpoint = self.checkpoint_folder / f"global_step_{self.global_steps}"
        if checkpoint.exists():  # cut off in an earlier attempt
            checkpoints.remove(checkpoint)
        super()._save_checkpoint()
        self.marking = self.marker.submit(self._mark, checkpoint, self._metrics_so_far())
        self.saved_step = self.global_steps

    def _mark(self, checkpoint: Path, metrics: dict[str, Any]) -> None:
        checkpoints.mark(checkpoint, metrics)
        if self.keep:
            checkpoints.prune(self.checkpoint_folder, self.keep, best_steps(self.run_folder / METRICS_FILE))

    def _metrics_so_far(self) -> dict[str, Any]:
        """The metrics of this step, which veRL logs only after the validation that follows a save."""
        metrics = dict(self.step_metrics)
        timing = {**self.timing_raw, "step": time.perf_counter() - self.step_began}
        epoch = (self.global_steps - 1) // self.steps_per_epoch
        self._compute_metrics(self.step_batch, metrics, timing, global_steps=self.global_steps, epoch=epoch)
        logged = {name: plain(value) for name, value in metrics.items()}
        return {name: value for name, value in logged.items() if isinstance(value, float | int | str)}

    def on_step_end(self) -> None:
        """Go on with the new weights; where a stop is requested, save instead and let the loop end."""
        if self.marking.done():
            self.marking.result()  # raises what it raised, e.g. since the disk is full
        if not (self.run_folder / STOP_FILE).exists():
            super().on_step_end()
            return
        if self.saved_step != self.global_steps:
            with marked_timer("save_checkpoint", self.timing_raw):
                self._save_checkpoint()
        self.total_training_steps = self.global_steps
        with open_dict(self.config):
            self.config.trainer.test_freq = -1


def best_steps(metrics_file: Path) -> set[int]:
    """The step with the highest validation accuracy so far, the mean over the validation sets; none without one."""
    accuracies = {}
    for line in files.lines(metrics_file):
        entry = files.parse_json(line)
        if (accuracy := validation_accuracy(entry["data"])) is not None:
            accuracies[entry["step"]] = accuracy
    return set(best_first(accuracies)[:1])


def plain(value: Any) -> Any:
    """A number of numpy or torch as Python's own; JSON has no value that is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return value if not isinstance(value, float) or math.isfinite(value) else None
