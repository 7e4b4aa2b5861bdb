"""How the cost of a step grows with its responses where these have next to no tokens.

    .venv/bin/python benchmarks/controller.py OUT justrl_tiny              # on the CPU
    python benchmarks/controller.py OUT justrl_deepseek --system h200x1 [KEY=VALUE ...]

Runs `verl run` once per number of responses, each with RESPONSE tokens at most, for STEPS steps, into OUT/N. Prints
a JSON line for each: the median seconds of veRL's timers without the first step, and `rest`, in none of them.
Generation, log-probs and update then consist of what a response costs beside its tokens: messages, queues, rewards,
padding, statistics. `SIZES=256,1024` in the environment chooses the numbers of responses.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

SIZES = [int(size) for size in os.environ.get("SIZES", "256,1024,2048,8192").split(",")]
RESPONSES, STEPS, RESPONSE = 8, 4, 4
PHASES = ("gen", "old_log_prob", "adv", "update_actor", "update_weights")


def measure(folder: Path, size: int, command: list[str]) -> dict:
    """One run with `size` responses a step."""
    prompts = size // RESPONSES
    overrides = [
        f"data.train_batch_size={prompts}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={prompts // 4}",
        f"data.max_response_length={RESPONSE}",
        f"trainer.total_training_steps={STEPS}",
        *("trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=-1"),
    ]
    program = [sys.executable, "-c", "from justrl_recipe.cli import main; main()"]
    subprocess.run([*program, "run", *command, *overrides, "--out", str(folder)], check=True)
    entries = [json.loads(line)["data"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seconds = {name: median(entry[f"timing_s/{name}"] for entry in entries[1:]) for name in ("step", *PHASES)}
    rest = median(entry["timing_s/step"] - sum(entry[f"timing_s/{name}"] for name in PHASES) for entry in entries[1:])
    return {"responses": size, **seconds, "rest": rest}


if __name__ == "__main__":
    out, *command = sys.argv[1:]
    for size in SIZES:
        print(json.dumps(measure(Path(out) / str(size), size, command)), flush=True)
