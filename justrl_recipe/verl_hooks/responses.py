"""Keeps the sample of responses that justrl_recipe/responses/selection.py chooses.

veRL 0.9.1 writes all responses of each step, or none (`trainer.rollout_data_dir`, `trainer.validation_data_dir`).
Here only what is kept is fetched from TransferQueue and decoded.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import transfer_queue as tq
from torch import Tensor
from transfer_queue import KVBatchMeta

from justrl_recipe.responses.reading import TRAINING, VALIDATION
from justrl_recipe.responses.selection import RESPONSES, Selection, hash_of
from justrl_recipe.responses.text import PROMPT, SHORT, boxes, kept, non_english, repeated, shortened

FIELDS = [
    "responses",
    "response_mask",
    "rm_scores",
    "entropy",
    "extra_fields",
    "reward_model",
]  # where they exist
Lines = dict[str, dict[str, Any]]  # of responses.jsonl, by the prompt's id


class Keeper:
    """Of a training process: takes each batch that was trained on, and each of a validation.

    Args:
        limit: the longest response in tokens.
    """

    def __init__(self, selection: Selection, file: Path, tokenizer: Any, limit: int):
        self.selection, self.file, self.tokenizer, self.limit = selection, file, tokenizer, limit
        self.validation: Lines = {}
        self.hashes: dict[str, float] = {}  # of the prompts in `validation`

    def keep_batch(self, batch: KVBatchMeta, step: int) -> None:
        """Write what is kept of a training batch; raises OSError where it cannot be written, and nothing of it is."""
        groups = groups_of(batch)
        about = self._about(batch, groups)
        chosen = self.selection.of_batch(step, {uid: hash_of(*text) for uid, text in about.items()})
        lines = self._lines(batch, {uid: groups[uid] for uid in chosen}, about, step, TRAINING)
        append(self.file, lines.values())

    def take_validation(self, batch: KVBatchMeta, step: int) -> None:
        """Fetch what may be kept of a batch of a validation, of which there may be several."""
        if not self.selection.keeps_validation(step):
            return
        groups = groups_of(batch)
        about = self._about(batch, groups)
        hashes = {uid: hash_of(*text) for uid, text in about.items()}
        chosen = self.selection.of_validation(hashes)
        self.hashes |= {uid: hashes[uid] for uid in chosen}
        self.validation |= self._lines(batch, {uid: groups[uid] for uid in chosen}, about, step, VALIDATION)

    def end_validation(self, step: int) -> None:
        """Write what is kept of a validation; raises OSError as `keep_batch` does."""
        if not self.validation:
            return
        lines = [self.validation[uid] for uid in self.selection.of_validation(self.hashes)]
        self.validation, self.hashes = {}, {}
        self.selection.validated = step
        append(self.file, lines)

    def _about(self, batch: KVBatchMeta, groups: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
        """Data source and text of each prompt."""
        if not self.selection.prompts or not groups:
            return {}
        keys = [of_prompt[0] for of_prompt in groups.values()]
        fields = ["data_source", "raw_prompt"]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
        sources, prompts = values(data["data_source"]), values(data["raw_prompt"])
        return {uid: (str(of), text_of(raw)) for uid, of, raw in zip(groups, sources, prompts, strict=True)}

    def _lines(
        self,
        batch: KVBatchMeta,
        groups: Mapping[str, list[str]],
        about: Mapping[str, tuple[str, str]],
        step: int,
        kind: str,
    ) -> Lines:
        lines: Lines = {}
        for uid, keys in groups.items():
            data = tq.kv_batch_get(keys=keys[:RESPONSES], partition_id=batch.partition_id, select_fields=FIELDS)
            source, prompt = about[uid]
            models = values(data["reward_model"]) if "reward_model" in data else [{}]
            lines[uid] = {
                "step": step,
                "batch": kind,
                "data_source": shortened(source, SHORT),
                "prompt": shortened(prompt, PROMPT),
                "ground_truth": shortened(str(models[0].get("ground_truth", "")), SHORT),
                "responses": self._responses(data),
            }
        return lines

    def _responses(self, data: Any) -> list[dict[str, Any]]:
        responses = data["responses"].unbind()
        rewards = data["rm_scores"].unbind() if "rm_scores" in data else [None] * len(responses)
        entropies = mean_entropies(data) if "entropy" in data else [None] * len(responses)
        extra_fields = values(data["extra_fields"]) if "extra_fields" in data else [{}] * len(responses)
        return [
            self._response(ids, reward, entropy, extra.get("reward_extra_info", {}))
            for ids, reward, entropy, extra in zip(responses, rewards, entropies, extra_fields, strict=True)
        ]

    def _response(
        self, ids: Tensor, reward: Tensor | None, entropy: float | None, info: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A response as it is kept.

        Args:
            ids: int64, [tokens].
            reward: [tokens], of which the sum counts.
            info: what the reward function returned.
        """
        text = self.tokenizer.decode(ids, skip_special_tokens=True)  # as the reward function gets it
        shown, left_out = kept(text)
        return {
            "text": shown,
            "left_out": left_out,
            "tokens": len(ids),
            "cut": len(ids) >= self.limit,
            "reward": None if reward is None else round(reward.sum().item(), 4),
            "acc": None if info.get("acc") is None else float(info["acc"]),
            "reason": shortened(str(info.get("reason") or ""), SHORT),
            "entropy": entropy,
            "boxes": boxes(text),
            "repeated": round(repeated(text), 4),
            "non_english": round(non_english(text), 4),
        }


def groups_of(batch: KVBatchMeta) -> dict[str, list[str]]:
    """The keys of each prompt's responses, in the order of their numbers, without padding.

    Keys are `{prompt}_{response}_{output}` (verl/trainer/ppo/v1/replay_buffer.py); the last output of several counts.
    """
    last: dict[tuple[str, int], tuple[int, str]] = {}
    for key, tag in zip(batch.keys, batch.tags, strict=True):
        uid, response, output = key.rsplit("_", 2)
        if not tag.get("is_padding", False):
            place = uid, int(response)
            last[place] = max(last.get(place, (-1, "")), (int(output), key))
    groups: dict[str, list[str]] = {}
    for (uid, _), (_, key) in sorted(last.items()):
        groups.setdefault(uid, []).append(key)
    return groups


def values(column: Any) -> list[Any]:
    """A column that is no tensor: TransferQueue gives values, or tensordict's wrappers around them."""
    return [getattr(item, "data", item) for item in column]


def text_of(raw_prompt: Any) -> str:
    """The text of a prompt: the contents of its messages."""
    return "\n\n".join(str(message["content"]) for message in raw_prompt)


def mean_entropies(data: Any) -> list[float | None]:
    """Over the tokens of each response that were trained on."""
    of_tokens = zip(data["entropy"].unbind(), data["response_mask"].bool().unbind(), strict=True)
    return [round(entropy[mask].mean().item(), 4) if mask.any() else None for entropy, mask in of_tokens]


def append(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to a JSON-lines file, all of them or none.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode("utf-8", "replace")
    if not content:
        return
    with file.open("ab", buffering=0) as opened:
        end = opened.tell()
        try:
            if opened.write(content) < len(content):
                raise OSError(f"{file.name}: the disk took only a part of the lines")
        except OSError:
            opened.truncate(end)
            raise
