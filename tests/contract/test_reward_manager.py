"""Each reward function through veRL's own DAPO reward manager, by the configs that recipes and ablations give."""

import asyncio

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerBase
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager

from justrl_recipe.config import Request, load
from justrl_recipe.cpu.tiny_model import build_tokenizer

TEXT = "so \\boxed{1/2}, \\boxed{0.5}, \\boxed{2}."
PROMPT_LENGTH, RESPONSE_LENGTH = 4, 32


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer([TEXT] * 50)


def row(tokenizer, response: str, gold: str, source: str, length: int | None = None) -> DataProto:
    """One rolled-out response, right-padded, as the agent loop hands it to the manager."""
    ids = tokenizer.encode(response, add_special_tokens=False)
    length = length or len(ids)
    tokens = torch.tensor([ids + [tokenizer.pad_token_id] * (RESPONSE_LENGTH - len(ids))])
    mask = torch.tensor([[1] * (PROMPT_LENGTH + length) + [0] * (RESPONSE_LENGTH - length)])
    return DataProto.from_dict(
        tensors={
            "prompts": torch.zeros(1, PROMPT_LENGTH, dtype=torch.long),
            "responses": tokens,
            "attention_mask": mask,
        },
        non_tensors={
            "data_source": np.array([source], dtype=object),
            "reward_model": np.array([{"ground_truth": gold, "style": "rule"}], dtype=object),
            "extra_info": np.array([{"index": "0"}], dtype=object),
        },
    )


def rewards(tokenizer, request: Request, *rows: DataProto) -> list[dict]:
    async def scored() -> list[dict]:
        manager = load_reward_manager(OmegaConf.create(load(request).values), tokenizer)
        assert type(manager).__name__ == "DAPORewardManager"
        return await asyncio.gather(*(manager.run_single(data) for data in rows))

    return asyncio.run(scored())


def test_the_recipe_trains_on_the_string_and_validates_on_the_mathematics(tokenizer):
    sources = ("math_dapo", "arithmetic", "AIME24", "AIME25", "AMC23", "a source of the user's")
    rows = [row(tokenizer, "so \\boxed{1/2}", "0.5", source) for source in sources]
    results = rewards(tokenizer, Request("justrl_deepseek"), *rows)
    assert [r["reward_score"] for r in results] == [-1.0, -1.0, 1.0, 1.0, 1.0, -1.0]
    assert results[0]["reward_extra_info"] == {
        "score": -1.0,
        "acc": False,
        "pred": "1/2",
        "reason": "other answer",
    }
    exact = rewards(
        tokenizer, Request("justrl_deepseek"), *(row(tokenizer, "\\boxed{0.5}", "0.5", s) for s in sources)
    )
    assert [r["reward_score"] for r in exact] == [1.0] * 6


def test_the_robust_verifier_replaces_it_as_a_whole(tokenizer):
    request = Request("justrl_deepseek", ablations=("robust_verifier",))
    rows = [row(tokenizer, "\\boxed{1/2}", "0.5", "math_dapo"), row(tokenizer, "\\boxed{2}", "0.5", "math_dapo")]
    assert [r["reward_score"] for r in rewards(tokenizer, request, *rows)] == [1.0, -1.0]


@pytest.mark.parametrize(
    ("ablations", "gold"), [(("overlong_penalty",), "1/2"), (("overlong_penalty", "robust_verifier"), "0.5")]
)
def test_the_overlong_penalty_grows_over_the_last_tokens(tokenizer, ablations, gold):
    shorter = ("data.max_response_length=32", "reward.reward_kwargs.overlong_buffer_cfg.len=8")
    request = Request("justrl_deepseek", ablations=ablations, overrides=shorter)
    rows = [row(tokenizer, "\\boxed{1/2}", gold, "math_dapo", length) for length in (24, 26, 32)]
    results = rewards(tokenizer, request, *rows)
    assert [float(r["reward_score"]) for r in results] == [1.0, 0.75, 0.0]
    assert [bool(r["reward_extra_info"]["overlong"]) for r in results] == [False, True, True]
    assert [r["reward_extra_info"]["acc"] for r in results] == [True, True, True]


def test_a_hang_in_one_response_costs_the_others_nothing(tokenizer):
    request = Request("justrl_deepseek", ablations=("robust_verifier",))
    rows = [row(tokenizer, "\\boxed{1/2}", "0.5", "x"), row(tokenizer, "\\boxed{2}", "2^{2^{2^{49}}}", "x")] * 8
    assert [r["reward_score"] for r in rewards(tokenizer, request, *rows)] == [1.0, -1.0] * 8


def test_the_users_own_file_takes_its_place(tokenizer, tmp_path):
    file = tmp_path / "my_reward.py"
    file.write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):\n"
        "    right = ground_truth in solution_str\n"
        '    return {"score": 1.0 if right else 0.0, "acc": right, "pred": None}\n'
    )
    request = Request("justrl_deepseek", overrides=(f"reward.custom_reward_function.path={file}",))
    rows = [row(tokenizer, "it is 2", "2", "x"), row(tokenizer, "it is 1", "2", "x")]
    assert [r["reward_score"] for r in rewards(tokenizer, request, *rows)] == [1.0, 0.0]
