"""Keeping responses: what veRL calls and hands over, on data as TransferQueue gives it, and a disk that is full."""

import inspect
import json
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict  # type: ignore[import-untyped]
from tensordict.tensorclass import NonTensorStack  # type: ignore[import-untyped]
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from justrl_recipe.metrics import UNKEPT
from justrl_recipe.responses.selection import RESPONSES, Selection
from justrl_recipe.verl_hooks import responses
from justrl_recipe.verl_hooks.trainer import Trainer

LIMIT = 4


class Letters:
    """A tokenizer whose tokens are letters; 0 is special."""

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(map(chr, (number for number in ids.tolist() if number)))


def nested(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


class Queue:
    """TransferQueue with the responses of a batch: `{prompt}_{response}_0`, each as many letters as its number."""

    def __init__(self) -> None:
        self.fetched: list[tuple[list[str], list[str]]] = []

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> TensorDict:
        self.fetched.append((keys, select_fields))
        ids = [[ord("a")] * (int(key.split("_")[1]) + 1) + [0] for key in keys]
        columns = {
            "data_source": NonTensorStack(*["math"] * len(keys)),
            "raw_prompt": NonTensorStack(*[[{"role": "user", "content": key.split("_")[0]}] for key in keys]),
            "reward_model": NonTensorStack(*[{"ground_truth": "34"}] * len(keys)),
            "extra_fields": NonTensorStack(*[{"reward_extra_info": {"acc": True, "reason": "words"}}] * len(keys)),
            "responses": nested(ids),
            "response_mask": nested([[1] * len(row) for row in ids]),
            "rm_scores": nested([[0.0] * (len(row) - 1) + [1.0] for row in ids]),
            "entropy": nested([[0.5] * len(row) for row in ids]),
        }
        if partition_id == "val":  # which the trainer computes for a training batch alone
            del columns["entropy"]
        return TensorDict({name: columns[name] for name in select_fields if name in columns}, batch_size=len(keys))


@pytest.fixture
def queue(monkeypatch) -> Queue:
    fake = Queue()
    monkeypatch.setattr(responses, "tq", fake)
    return fake


def batch(prompts: int, each: int, partition: str) -> KVBatchMeta:
    keys = [f"prompt{prompt}_{response}_0" for response in range(each) for prompt in range(prompts)]
    tags = [{"is_padding": False} for _ in keys]
    return KVBatchMeta(partition_id=partition, keys=[*keys, "pad_0_0"], tags=[*tags, {"is_padding": True}])


def keeper(file: Path, prompts: int = 2) -> responses.Keeper:
    return responses.Keeper(Selection(prompts, steps=10), file, Letters(), LIMIT)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_only_what_is_kept_is_fetched_and_decoded(queue, tmp_path):
    file = tmp_path / "responses.jsonl"
    keeper(file).keep_batch(batch(16, 8, "train"), step=3)
    found = lines(file)
    assert [line["step"] for line in found] == [3, 3] and len({line["prompt"] for line in found}) == 2
    first, *_, last = found[0]["responses"]
    assert len(found[0]["responses"]) == 8
    assert (first["text"], first["tokens"], first["cut"], first["reward"], first["acc"]) == ("a", 2, False, 1.0, 1.0)
    assert (last["text"], last["tokens"], last["cut"]) == ("a" * 8, 9, True)
    assert (first["reason"], first["entropy"], found[0]["ground_truth"]) == ("words", 0.5, "34")
    (asked, fields), *others = queue.fetched
    assert len(asked) == 16 and set(fields) == {"data_source", "raw_prompt"}
    assert [len(keys) for keys, _ in others] == [8, 8] and not any("pad" in key for keys, _ in others for key in keys)


def test_a_validation_in_several_batches_keeps_the_same_prompts(queue, tmp_path):
    file = tmp_path / "responses.jsonl"
    one = keeper(file)
    for step in (0, 5):
        for _ in range(2):
            one.take_validation(batch(5, 32, "val"), step)
        one.end_validation(step)
    found = lines(file)
    assert [(line["step"], line["batch"]) for line in found] == [(0, "validation")] * 2 + [(5, "validation")] * 2
    assert found[0]["prompt"] == found[2]["prompt"] and found[1]["prompt"] == found[3]["prompt"]
    assert {len(line["responses"]) for line in found} == {RESPONSES}
    assert found[0]["responses"][0]["entropy"] is None


def test_zero_keeps_nothing_and_fetches_nothing(queue, tmp_path):
    nothing = keeper(tmp_path / "responses.jsonl", prompts=0)
    nothing.keep_batch(batch(4, 2, "train"), 1)
    nothing.take_validation(batch(4, 2, "val"), 1)
    nothing.end_validation(1)
    assert queue.fetched == [] and list(tmp_path.iterdir()) == []


@pytest.fixture
def little_space():
    """A process that may write files of 1,000 bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_whole_lines(little_space, tmp_path):
    file = tmp_path / "responses.jsonl"
    responses.append(file, [{"text": "a" * 600}])
    with pytest.raises(OSError, match=r".+"):
        responses.append(file, [{"text": "b" * 300}, {"text": "c" * 300}])
    responses.append(file, [{"text": "d" * 100}])
    assert [line["text"][0] for line in lines(file)] == ["a", "d"]


def test_a_run_whose_responses_cannot_be_written_trains_on_and_says_so():
    def write() -> None:
        raise OSError(28, "No space left on device")

    trainer = object.__new__(Trainer)
    trainer.step_metrics, trainer.global_steps = {}, 3
    trainer.keeper = keeper(Path("responses.jsonl"))
    trainer._keep(write)
    assert trainer.step_metrics == {UNKEPT: 2}


def test_a_text_that_utf8_cannot_hold_is_kept(tmp_path):
    responses.append(tmp_path / "f", [{"text": "\ud800"}])
    assert lines(tmp_path / "f") == [{"text": "?"}]


def test_verl_samples_a_validation_before_it_clears_it_and_tells_of_its_end():
    validate, fit = inspect.getsource(PPOTrainer._validate), inspect.getsource(PPOTrainer.fit)
    assert validate.index("self.replay_buffer.sample(") < validate.index("tq.kv_clear(")
    assert 'partition_id="val"' in validate and validate.count("self.replay_buffer.sample(") == 1
    assert fit.count("self._validate()") == fit.count("self.on_validate_end()") == 2
    assert "self.step(metrics, self.timing_raw)" in fit
    assert PPOTrainerSync.on_validate_end is PPOTrainer.on_validate_end
    assert {"step", "on_validate_end", "fit"} <= vars(Trainer).keys() & vars(PPOTrainer).keys()


def test_verl_leaves_the_entropy_of_each_token_where_it_is_fetched():
    source = inspect.getsource(PPOTrainer._compute_old_log_prob)
    assert 'data["entropy"] = response_from_nested(' in source and 'data.select("old_log_probs", "entropy")' in source


def test_a_reason_changes_no_validation_metric():
    infos = {"acc": [1.0, 0.0], "reward": [1.0, -1.0], "pred": ["2", None]}
    arguments = (["AIME24"] * 2, ["a", "a"])
    without = process_validation_metrics(*arguments, infos)
    assert process_validation_metrics(*arguments, infos | {"reason": ["words", "no box"]}) == without
