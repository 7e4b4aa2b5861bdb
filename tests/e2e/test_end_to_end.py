"""The product: `verl run` trains, on real veRL, Ray, FSDP, TransferQueue and vLLM; and ends whole."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest
import torch
import yaml
from command import verl
from documents import ROOT, blocks
from safetensors.torch import load_file
from trainings import SECOND_ARM_STEPS, SHORT, Trained, second_arm, start

from justrl_recipe.responses.selection import hash_of

pytestmark = pytest.mark.xdist_group("training")  # one training at a time

LAST = f"global_step_{SECOND_ARM_STEPS}"


def read(run: Path) -> tuple[dict, list[dict]]:
    manifest = json.loads((run / "manifest.json").read_text())
    return manifest, [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def processes_of(run: Path) -> list[psutil.Process]:
    """The processes that a run left, known by the metrics path in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("VERL_FILE_LOGGER_PATH") == str((run / "metrics.jsonl").absolute()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def wait_until_gone(run: Path, seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while processes_of(run) and time.monotonic() < deadline:
        time.sleep(0.2)
    return processes_of(run)


def test_it_learns_by_the_reward_with_its_penalty(trained):
    _, entries = read(trained.run)
    steps = [entry for entry in entries if "critic/score/mean" in entry["data"]]
    assert [entry["step"] for entry in steps] == [*range(1, SECOND_ARM_STEPS + 1)]
    for entry in steps:
        metrics = entry["data"]
        assert 0 <= metrics["reward/acc"] <= 1
        assert 0 <= metrics["reward/overlong"] <= 1
        penalty = metrics["critic/score/mean"] - (2 * metrics["reward/acc"] - 1)
        assert penalty == pytest.approx(0, abs=1e-6) if metrics["reward/overlong"] == 0 else penalty < 0
        assert metrics["training/rollout_probs_diff_mean"] < 1e-3  # the weights reach the rollout
        assert metrics["actor/grad_norm"] > 0
    assert any("val-core/arithmetic/acc/mean@1" in entry["data"] for entry in entries)
    assert (trained.run / "checkpoints" / LAST).is_dir()
    assert wait_until_gone(trained.run, 5) == []


def test_it_says_what_it_did(folder, trained):
    out, err = trained.out, trained.err
    assert out.count("step ") >= SECOND_ARM_STEPS and "validation at step 0: arithmetic accuracy" in out
    assert "TaskRunner" not in out + err and "WARNING" not in out + err
    assert "deviation: reward.reward_kwargs.overlong_buffer_cfg.enable: recipe false, yours true" in err
    manifest, _ = read(trained.run)
    assert manifest["status"] == "finished" and manifest["ended"] >= manifest["started"]
    assert manifest["is_justrl"] is False and manifest["ablations"] == ["overlong_penalty", "robust_verifier"]
    arm = {"reward.reward_kwargs.overlong_buffer_cfg.enable", "reward.custom_reward_function.path"}
    given = {key for key, is_value, _ in (word.partition("=") for word in (*SHORT, *second_arm(folder))) if is_value}
    assert {deviation["key"] for deviation in manifest["deviations"]} == arm | (given - {"trainer.test_freq"})
    assert {"verl", "torch", "transformers", "justrl-recipe", "python"} <= manifest["versions"].keys()
    config = yaml.safe_load((trained.run / "config.yaml").read_text())
    assert config["reward"]["reward_kwargs"]["overlong_buffer_cfg"]["enable"] is True
    assert re.search(r"^fork server: \d+ modules imported", (trained.run / "train.log").read_text(), re.MULTILINE)


def test_it_keeps_responses_with_what_decided_them(folder, trained):
    """Of the two prompts with the smallest hashes, and of the validation's the same at both ends."""
    found = [json.loads(line) for line in (trained.run / "responses.jsonl").read_text().splitlines()]
    assert sorted({(line["batch"], line["step"]) for line in found}) == [
        *(("training", step) for step in range(1, SECOND_ARM_STEPS + 1)),
        *(("validation", step) for step in (0, 2, 4, SECOND_ARM_STEPS)),
    ]
    rows = pyarrow.parquet.read_table(folder / "data/tiny/validation.parquet").to_pylist()
    texts = sorted((row["prompt"][0]["content"] for row in rows), key=lambda text: hash_of("arithmetic", text))
    assert [line["prompt"] for line in found if line["batch"] == "validation"] == texts[:2] * 4
    answers = {row["prompt"][0]["content"]: row["reward_model"]["ground_truth"] for row in rows}
    for line in found:
        is_training = line["batch"] == "training"
        assert len(line["responses"]) == (8 if is_training else 1)
        assert is_training or line["ground_truth"] == answers[line["prompt"]]
        for one in line["responses"]:
            assert 0 < one["tokens"] <= 24 and one["cut"] == (one["tokens"] == 24)
            assert one["reward"] <= (1 if one["acc"] else -1)  # with the overlong penalty
            assert one["reason"] and (one["reason"] != "no box" or not one["acc"])
            assert one["boxes"] == one["text"].count("\\boxed")
            assert (one["entropy"] is not None) == is_training
    _, entries = read(trained.run)
    assert all(entry["data"].get("timing_s/keep_responses", 0) < 0.5 for entry in entries)
    done = verl("responses", "both", "--step", "1", cwd=folder)
    assert done.returncode == 0 and "step 1, training, arithmetic" in done.stdout


def test_its_processes_listen_on_loopback_and_vllm_asks_for_a_key(trained):
    listeners = trained.listeners
    assert set(listeners.addresses) <= {"127.0.0.1", "::1"}, listeners.addresses
    assert len(listeners.addresses["127.0.0.1"]) > 3 and 401 in listeners.answers and 200 not in listeners.answers


def test_what_was_trained_is_evaluated_by_its_run_folder(folder, trained):
    wanted = ("--benchmark", "data/tiny/validation.parquet", "--max-tokens", "24", "--n", "2")
    done = verl("eval", "both", *wanted, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"merging {LAST}" in done.stderr
    checkpoint = trained.run / "checkpoints" / LAST
    assert sorted(path.name for path in checkpoint.iterdir() if path.name.startswith((".", "merged"))) == ["merged"]
    assert "packed" not in (checkpoint / "merged" / "config.json").read_text()  # so any program can load it
    found = json.loads((folder / "evals" / f"both-{LAST}" / "results.json").read_text())
    assert found["benchmarks"]["validation"]["responses"] == 32 and "validation" in done.stdout


def test_what_was_trained_is_exported_and_answers_as_the_readme_shows(folder, trained):
    done = verl("export", "both", "my-model", cwd=folder)
    assert done.returncode == 0, done.stderr
    checkpoint = trained.run / "checkpoints" / LAST
    shard = torch.load(checkpoint / "actor" / "model_world_size_1_rank_0.pt", weights_only=False)
    for name, weight in load_file(folder / "my-model" / "model.safetensors").items():
        assert torch.equal(weight, shard[name].to_local().bfloat16())
    card = (folder / "my-model" / "README.md").read_text()
    assert "Not evaluated" not in card and "| validation | 16 x 2 |" in card, "the evaluation above"
    assert "reward.reward_kwargs.overlong_buffer_cfg.enable | false | true" in card and str(folder) not in card
    [block] = [block for block in blocks(ROOT / "README.md") if block.info == ("python",)]
    command = [sys.executable, "-c", block.text]
    asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert asked.returncode == 0 and "'role': 'assistant', 'content': " in asked.stdout, asked.stdout + asked.stderr


MY_REWARD = """\
import os
import re

def compute_score(data_source, solution_str, ground_truth, extra_info=None, api_key=None, **kwargs):
    word = "-detnalp"[::-1]  # this file is copied as it is
    assert os.environ["WANDB_API_KEY"] == word + "wandb" and api_key == word + "reward", "the true values"
    print("used", api_key, repr(api_key), os.environ["WANDB_API_KEY"])
    right = ground_truth in solution_str
    return {"score": 1.0 if right else 0.0, "acc": right, "pred": None}
"""


ENV = "+ray_kwargs.ray_init.runtime_env.env_vars"
GIVEN = "+reward.custom_reward_function.reward_kwargs"
SECRETS = (
    f"{ENV}.WANDB_API_KEY=planted-wandb",
    f"{ENV}.AWS_SECRET_ACCESS_KEY=planted/aws+secret",
    f"{ENV}.HF_TOKEN=planted-token",
    f"{ENV}.PROXY='http://planted-user:planted-word@host/x?key=planted-param'",
    f"{ENV}.HEADER='Authorization: Bearer planted-bearer'",
    f"{GIVEN}.api_key=${{oc.env:PLANTED_KEY}}",
    f"{GIVEN}.judge={{url: here, password: planted-pass, names: [one, 'https://planted-me@host']}}",
    f"{GIVEN}.credentials={{user: planted-name}}",
    f"{GIVEN}.note=hf_planted000000000000000000",
    "trainer.experiment_name='http://planted-user:planted-word@host/'",
)


LORA = (
    *("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha=32"),
    *("actor_rollout_ref.actor.optim.lr=1e-2", "trainer.save_freq=3"),
    "+data.apply_chat_template_kwargs.enable_thinking=false",
)


@pytest.fixture(scope="module")
def mine(folder) -> Trained:
    """With a reward file of the user's own, secrets, and LoRA.

    At so high a rate that three steps change the weights by more than bfloat16 rounds.
    """
    (folder / "mine.py").write_text(MY_REWARD)
    given = ("--verbose", "reward.custom_reward_function.path=mine.py", *SECRETS, *LORA)
    process = start(folder, "--out", "mine", *given, PLANTED_KEY="planted-reward")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return Trained(folder / "mine", out, err)


def test_trains_with_a_reward_file_of_the_users_own_and_keeps_secrets(folder, mine):
    out, err = mine.out, mine.err
    assert (folder / "mine" / "code" / "mine.py").read_text() == MY_REWARD
    assert "used ${oc.env:PLANTED_KEY}" in out and (folder / "mine").stat().st_mode & 0o777 == 0o700
    assert verl("report", "mine", "--out", "mine/report", cwd=folder).returncode == 0
    texts = [file.read_bytes() for file in (folder / "mine").rglob("*") if file.is_file()]
    assert len(texts) > 5 and not any(b"planted" in text for text in (*texts, (out + err).encode()))
    _, entries = read(folder / "mine")
    steps = [entry["data"] for entry in entries if "critic/score/mean" in entry["data"]]
    assert len(steps) == 3
    for step in steps:  # the recipe's own reward would be below 0 here
        assert step["critic/score/mean"] == pytest.approx(step["reward/acc"]) and step["critic/score/min"] == 0.0
    assert wait_until_gone(folder / "mine", 5) == []


def test_a_lora_run_is_evaluated_with_what_it_learned(folder, mine, monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", "planted-reward")
    wanted = ("--benchmark", "data/tiny/validation.parquet", "--max-tokens", "24", "--n", "2", "--out")
    done = verl("eval", "mine", *wanted, "lora-eval", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "lora-eval" / "results.json").read_text())
    assert found["run"]["recipe"] == "justrl_tiny" and found["run"]["step"] == 3
    assert found["chat_template"]["arguments"] == {"enable_thinking": False}

    step = mine.run / "checkpoints" / "global_step_3"
    shard = torch.load(step / "actor" / "model_world_size_1_rank_0.pt", map_location="cpu", weights_only=False)
    full = {name.removeprefix("base_model.model."): weight.to_local() for name, weight in shard.items()}
    merged = load_file(step / "merged" / "model.safetensors")
    modules = [name.removesuffix(".lora_B.default.weight") for name in full if name.endswith("lora_B.default.weight")]
    assert len(modules) == 14
    for module in modules:
        before, after = full[f"{module}.base_layer.weight"], merged[f"{module}.weight"]
        update = 32 / 8 * full[f"{module}.lora_B.default.weight"] @ full[f"{module}.lora_A.default.weight"]
        assert update.abs().max() > 1e-3
        torch.testing.assert_close(after, before + update, rtol=1e-2, atol=1e-3)  # from shards in bfloat16
        assert (after - before - update).norm() < 0.1 * update.norm() + 4e-3 * before.norm()


BAD_REWARD = """\
from helper_beside import half

def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    if len(solution_str) % 4 == 0:
        raise KeyError("planted")
    return float("nan") if len(solution_str) % 4 == 1 else half()
"""
LOG_PROBS_EVERY = "actor_rollout_ref.rollout.custom.log_probs_every"
TRAIN_ALONE = ("trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1")


@pytest.fixture(scope="module")
def bad_reward(folder) -> str:
    """A reward with a helper beside it that raises for some responses and returns NaN for others."""
    (folder / "helper_beside.py").write_text("def half():\n    return 0.5\n")
    (folder / "bad.py").write_text(BAD_REWARD)
    return "reward.custom_reward_function.path=bad.py"


def test_responses_without_a_reward_end_the_run_and_are_counted(folder, bad_reward):
    process = start(folder, "--out", "lost", bad_reward, *TRAIN_ALONE)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, out + err
    assert "LOST " in out and "training responses of step 1" in out and "done" not in out
    [failure] = [line for line in err.splitlines() if line.startswith("training failed:")]
    assert "LostResponsesError" in failure
    assert "KeyError: 'planted'" in failure or ("RewardError" in failure and "bad.py" in failure and "nan" in failure)
    manifest = read_manifest(folder / "lost")
    assert manifest["status"] == "failed" and manifest["last_step"] == 0 and 0 < manifest["lost_responses"] < 64


ALLOWED = "trainer.v1.sampler.sampler_kwargs.max_lost_share=0.99"


@pytest.fixture(scope="module")
def cut_short(folder, bad_reward) -> Trained:
    """A run that may lose responses, in bypass mode, with data for two of its three steps."""
    few = ("--skip-check", "data-steps", "data.train_max_samples=20", "trainer.total_epochs=1")
    bypass = ("algorithm.rollout_correction.bypass_mode=true", f"{LOG_PROBS_EVERY}=1")
    process = start(folder, "--out", "short", bad_reward, ALLOWED, *few, *bypass, *TRAIN_ALONE)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, out + err
    return Trained(folder / "short", out, err)


def test_a_share_of_lost_responses_can_be_allowed_and_is_shown(cut_short):
    """And what was not logged is left out: a reward that returns a number has no accuracy, bypass mode no entropy."""
    steps = [line for line in cut_short.out.splitlines() if line.startswith("step")]
    assert len(steps) == 2 and not any("acc" in line or "entropy" in line for line in steps)
    assert cut_short.out.count("LOST ") == 2
    manifest, entries = read(cut_short.run)
    lost = sum(entry["data"]["rollout/lost_responses"] for entry in entries)
    assert len(entries) == 2 and manifest["lost_responses"] == lost > 0
    assert f"deviation: {ALLOWED.split('=')[0]}" in cut_short.err


def test_a_run_that_ends_before_its_last_step_is_not_done(cut_short):
    assert "done" not in cut_short.out and "it ended at step 2 of 3: trainer.total_epochs=1" in cut_short.err
    manifest = read_manifest(cut_short.run)
    assert (manifest["status"], manifest["last_step"]) == ("incomplete", 2)
    assert manifest["skipped_checks"] == ["data-steps"]


def wait_for(run: Path, file: str, process: subprocess.Popen, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not (run / file).exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    assert (run / file).exists()


def test_ctrl_c_ends_everything_and_says_so(folder):
    process = start(folder, "--out", "interrupted")
    wait_for(folder / "interrupted", "metrics.jsonl", process, 200)
    assert len(processes_of(folder / "interrupted")) > 5
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "interrupted" in err and "Traceback" not in err
    assert processes_of(folder / "interrupted") == []
    manifest, _ = read(folder / "interrupted")
    assert manifest["status"] == "interrupted" and manifest["ended"]


def test_sigterm_before_the_first_step_ends_everything_at_once(folder):
    process = start(folder, "--out", "terminated")
    wait_for(folder / "terminated", "train.log", process, 60)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75 and "stopped by SIGTERM before the first step" in err, out + err
    assert wait_until_gone(folder / "terminated", 5) == []
    assert read_manifest(folder / "terminated")["status"] == "stopped"


def test_a_reward_that_cannot_be_imported_is_found_before_anything_starts(folder):
    (folder / "my_reward.py").write_text("def compute_score(): ...\nraise ValueError('planted in my_reward.py')\n")
    named = "reward.custom_reward_function.path=my_reward.py"
    done = verl("run", "justrl_tiny", "--out", "unstarted", named, *SHORT, cwd=folder)
    assert done.returncode == 2 and not (folder / "unstarted").exists(), done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "ValueError: planted in my_reward.py" in line


def test_prompts_that_do_not_fit_end_the_start_and_leave_nothing(folder):
    """They are counted while the training process imports veRL."""
    process = start(folder, "--out", "too-long", "data.max_prompt_length=8")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2 and not (folder / "too-long").exists(), err
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 2 and all("data.max_prompt_length=8" in line for line in errors), err
    assert "run folder" not in out and processes_of(folder / "too-long") == []


def read_manifest(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text())
