"""Whole steps of a recipe with responses of given lengths: seconds by phase, and how long the last ones run alone.

    python benchmarks/step.py OUT justrl_deepseek [KEY=VALUE ...] --system h200x1 --model MODEL --prompts 32 \\
        --steps 512 4096 drawn 15360x64
    .venv/bin/python benchmarks/step.py OUT justrl_tiny --prompts 16 --steps 24 drawn       # on the CPU

One run in OUT, with a step for each of `--steps`: a number is the tokens of every response; `drawn` has lengths as in
the paper's figure (response_lengths.py), in proportion where the recipe's limit is lower; TOKENSxCOUNT gives so many
responses of a step these tokens and the others one. 32 prompts are one GPU's share of the recipe's 256 where there
are eight; `--prompts` is all GPUs' together. The first step compiles kernels and should not be counted.

Prints a JSON line for each step: seconds of veRL's timers and `rest`, in none of them; tokens of prompts and
responses per second; `tail`, the share of generation with fewer than TAIL responses running; and `start_s`, from the
command to the first rollout.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import response_lengths

from justrl_recipe.config import Request, load

PHASES = ("gen", "old_log_prob", "adv", "update_actor", "update_weights")
TAIL = 32


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--system")
    parser.add_argument("--model")
    parser.add_argument("--prompts", type=int, required=True)
    parser.add_argument("--steps", nargs="+", required=True)
    return parser.parse_intermixed_args()


def lengths(step: str, generator: np.random.Generator, shape: tuple[int, int], limit: int) -> np.ndarray:
    """Tokens of each response of a step, [prompts, responses]."""
    if step == "drawn":
        return response_lengths.draw(generator, *shape, limit)
    tokens, _, count = step.partition("x")
    if not count:
        return np.full(shape, int(tokens))
    found = np.ones(shape[0] * shape[1], int)
    found[np.linspace(0, len(found), int(count), endpoint=False).astype(int)] = int(tokens)
    return found.reshape(shape)


def write_data(folder: Path, steps: list[str], shape: tuple[int, int], limit: int) -> Path:
    """A data file with the prompts of each step, in their order."""
    generator = np.random.default_rng(0)
    rows = []
    for number, step in enumerate(steps, 1):
        log = str(folder / f"step_{number}.jsonl")
        for prompt in lengths(step, generator, shape, limit):
            index = len(rows)
            problem = f"{index} + 1 = \\boxed{{}}"
            rows.append(
                {
                    "data_source": "made_up",
                    "prompt": [{"content": problem, "role": "user"}],
                    "ability": "math",
                    "reward_model": {"ground_truth": "1", "style": "rule"},
                    "extra_info": {"index": str(index), "lengths": prompt.tolist(), "log": log},
                }
            )
    file = folder / "data.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


def train(asked: argparse.Namespace, folder: Path) -> float:
    """Run the steps; returns when the command began."""
    system = ("--system", asked.system) if asked.system else ()
    model = (f"actor_rollout_ref.model.path={asked.model}",) if asked.model else ()
    values = load(Request(asked.recipe, asked.system, overrides=(*model, *asked.overrides))).values
    limit, responses = values["data"]["max_response_length"], values["actor_rollout_ref"]["rollout"]["n"]
    data = write_data(folder, asked.steps, (asked.prompts, responses), limit)
    agent = folder / "agent.yaml"
    agent.write_text("- name: given_length_agent\n  _target_: given_length_agent.GivenLengthAgentLoop\n")
    overrides = [
        *(f"data.train_files={data}", f"data.val_files={data}", "data.shuffle=false"),
        f"data.train_batch_size={asked.prompts}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={asked.prompts // 4}",
        "actor_rollout_ref.rollout.ignore_eos=true",
        f"actor_rollout_ref.rollout.agent.agent_loop_config_path={agent}",
        "actor_rollout_ref.rollout.agent.default_agent_loop=given_length_agent",
        f"trainer.total_training_steps={len(asked.steps)}",
        *("trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=-1"),
    ]
    program = [sys.executable, "-c", "from justrl_recipe.cli import main; main()"]
    command = [*program, "run", asked.recipe, *system, *model, *overrides, *asked.overrides]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.time()
    subprocess.run([*command, "--out", str(folder / "run")], env={**os.environ, "PYTHONPATH": path}, check=True)
    return start


def tail(responses: list[dict]) -> float:
    """The share of the time from the first response's start to the last one's end with fewer than TAIL running."""
    ends = sorted(response["end"] for response in responses)
    start = min(response["start"] for response in responses)
    return (ends[-1] - ends[-min(TAIL, len(ends))]) / (ends[-1] - start)


def report(folder: Path, steps: list[str], start: float) -> None:
    entries = [json.loads(line)["data"] for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    for number, (step, entry) in enumerate(zip(steps, entries, strict=True), 1):
        responses = [json.loads(line) for line in (folder / f"step_{number}.jsonl").read_text().splitlines()]
        seconds = {name: entry[f"timing_s/{name}"] for name in ("step", *PHASES)}
        found = {
            "lengths": step,
            "responses": len(responses),
            "mean_length": sum(response["length"] for response in responses) / len(responses),
            **{name: round(value, 2) for name, value in seconds.items()},
            "rest": round(seconds["step"] - sum(seconds[name] for name in PHASES), 2),
            "tokens_per_second": round(entry["perf/total_num_tokens"] / seconds["step"]),
            "tail": round(tail(responses), 3),
            "mfu": entry.get("perf/mfu/actor"),
            "rollout_probs_diff": entry.get("training/rollout_probs_diff_mean"),
        }
        if number == 1:
            found["start_s"] = round(min(response["start"] for response in responses) - start, 1)
        print(json.dumps(found), flush=True)


def main(asked: argparse.Namespace) -> None:
    folder = asked.out.resolve()
    folder.mkdir(parents=True)
    report(folder, asked.steps, train(asked, folder))


if __name__ == "__main__":
    main(arguments())
