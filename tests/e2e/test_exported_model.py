"""`verl export` with veRL's own merger: what is written is the trained model, whole or not at all."""

import copy
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import hub_stand_in
import pytest
import saved_checkpoint
import torch
import yaml
from command import verl
from run_folders import write_run
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from justrl_recipe.config import Request, load
from justrl_recipe.cpu import tiny_model
from justrl_recipe.evaluation import checkpoints, generation
from justrl_recipe.export import folder as exporting

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

STEP = 31  # the last one that tests/run_folders.py validates
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
LORA = {"r": 4, "lora_alpha": 12}


def trained_model():
    """A tiny model in float32, as veRL trains it, and its tokenizer."""
    tokenizer = tiny_model.build_tokenizer(["user 1 + 1 = <>"])
    return tiny_model.build_model(load(Request("justrl_tiny")).values["tiny_model"], tokenizer), tokenizer


def write_config(run: Path, **model) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["total_training_steps"] = STEP
    config["actor_rollout_ref"] = {"model": model}
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with a run of a full model, and the base model that it started from."""
    path = tmp_path_factory.mktemp("export")
    model, tokenizer = trained_model()
    (path / "base").mkdir()
    (path / "base" / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: owner/base\n---\n")
    saved_checkpoint.save_model(write_run(path / "run") / "checkpoints", STEP, model, tokenizer)
    write_config(path / "run", path=str(path / "base"), custom_chat_template=CHAT)
    return path


@pytest.fixture(scope="module")
def exported(folder) -> Path:
    done = verl("export", "run", "model", "--step", "best", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"step {STEP} of run is written to model" in done.stdout
    return folder / "model"


def log_probs(model, ids: torch.Tensor) -> torch.Tensor:
    """Of each token but the first, (tokens - 1)."""
    with torch.no_grad():
        logits = model.float().eval()(input_ids=ids[None]).logits[0, :-1]
    return torch.log_softmax(logits, dim=-1).gather(1, ids[1:, None])[:, 0]


def test_it_is_the_trained_model_in_bfloat16(folder, exported):
    shard = torch.load(folder / f"run/checkpoints/global_step_{STEP}/actor/model_world_size_1_rank_0.pt")
    written = load_file(exported / "model.safetensors")
    assert all(torch.equal(weight, shard[name].bfloat16()) for name, weight in written.items())
    assert shard.keys() - written.keys() <= {"lm_head.weight"}, "tied to the embedding"
    trained, _ = trained_model()
    trained.load_state_dict(shard)
    rounded = copy.deepcopy(trained)
    for weight in rounded.parameters():
        weight.data = weight.data.bfloat16().float()
    loaded = AutoModelForCausalLM.from_pretrained(exported)
    assert loaded.dtype == torch.bfloat16
    ids = torch.arange(3, 60)
    torch.testing.assert_close(log_probs(loaded, ids), log_probs(trained, ids), rtol=0, atol=0.02)
    torch.testing.assert_close(log_probs(loaded, ids), log_probs(rounded, ids), rtol=0, atol=1e-5)


BY_VLLM = """
import sys
from vllm import LLM, SamplingParams, TokensPrompt

ids = list(range(3, 60))
model = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=128)
[output] = model.generate(TokensPrompt(prompt_token_ids=ids), SamplingParams(prompt_logprobs=0, max_tokens=1))
print("log-probs", *(at[token].logprob for token, at in zip(ids[1:], output.prompt_logprobs[1:])))
"""


def test_vllm_finds_the_same_log_probabilities(exported):
    done = subprocess.run(
        [sys.executable, "-c", BY_VLLM, exported],
        env={**os.environ, **generation.cpu_environment(), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("log-probs ")]
    found = torch.tensor([float(text) for text in line.split()[1:]])
    expected = log_probs(AutoModelForCausalLM.from_pretrained(exported), torch.arange(3, 60))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_its_tokenizer_and_sampling_are_those_of_training_and_evaluation(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "1 + 1"}], tokenize=False)
    assert text == "<user>1 + 1"
    sampling = AutoModelForCausalLM.from_pretrained(exported).generation_config
    assert (sampling.do_sample, sampling.temperature, sampling.top_p, sampling.top_k) == (True, 0.7, 0.9, 0)
    assert (sampling.max_new_tokens, sampling.eos_token_id) == (8192, tokenizer.eos_token_id), "the model's context"


def test_its_card_names_the_base_and_the_hashes_and_no_machine(folder, exported):
    text = (exported / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "apache-2.0" and "base_model: owner/base" in text
    for file in exported.iterdir():
        content = file.read_bytes()
        assert file.name == "README.md" or hashlib.sha256(content).hexdigest() in text
        assert str(folder).encode() not in content and b"secret-host" not in content
        assert file.stat().st_mode & 0o777 == 0o644
    assert (exported / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob(".model*"))


def test_an_index_of_several_files_is_written(tmp_path):
    (tmp_path / "out").mkdir()
    model, _ = trained_model()
    model.save_pretrained(tmp_path / "model", max_shard_size="500KB")
    exporting.write_weights(tmp_path / "model", tmp_path / "out")
    index = json.loads((tmp_path / "out" / exporting.INDEX).read_text())
    weights = {name: load_file(tmp_path / "out" / file)[name] for name, file in index["weight_map"].items()}
    assert len(set(index["weight_map"].values())) > 1
    assert sum(weight.nbytes for weight in weights.values()) == index["metadata"]["total_size"]
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


# --- LoRA


@pytest.fixture(scope="module")
def lora(folder) -> torch.nn.Module:
    """A run that trained an adapter, and its model."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = trained_model()
    model.save_pretrained(folder / "lora-base")
    config = LoraConfig(
        r=4, lora_alpha=12, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    wrapped = get_peft_model(model, config)
    run = write_run(folder / "lora")
    saved_checkpoint.save_model(run / "checkpoints", STEP, wrapped, tokenizer, LORA)
    write_config(run, path=str(folder / "base"), lora_rank=4)
    return wrapped


@pytest.mark.parametrize("kept", [False, True])
def test_an_adapter_is_merged_or_kept(folder, lora, kept):
    from peft import PeftModel

    out = folder / f"lora-{'kept' if kept else 'merged'}"
    done = verl("export", "lora", out.name, *["--adapter"] * kept, cwd=folder)
    assert done.returncode == 0, done.stderr
    ids, card = torch.arange(3, 60), (out / "README.md").read_text()
    if kept:
        assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/base"
        assert not (out / "config.json").exists() and "library_name: peft" in card and "kept as an adapter" in card
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "lora-base"), out)
    else:
        assert not (out / "adapter_config.json").exists() and not (out / checkpoints.LORA_RECORD).exists()
        assert "lora_alpha 12; merged: bfloat16 keeps" in card
        loaded = AutoModelForCausalLM.from_pretrained(out)
    with lora.disable_adapter():
        assert (log_probs(lora, ids) - log_probs(loaded, ids)).abs().max() > 0.1, "the adapter changes the model"
    torch.testing.assert_close(log_probs(loaded, ids), log_probs(lora, ids), rtol=0, atol=0.05)


# --- whole or not at all


def test_a_full_disk_leaves_nothing(folder, exported):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # which ends a write as a full disk does
    try:
        done = verl("export", "run", "full", cwd=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 2 and "cannot write" in done.stderr, done.stderr
    assert not [path for path in folder.iterdir() if "full" in path.name]


@pytest.mark.parametrize("last", ["write_tokenizer", "seal"])
def test_an_interrupt_leaves_nothing(folder, exported, monkeypatch, last):
    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, last, interrupt)
    (folder / "empty").mkdir(exist_ok=True)
    done = verl("export", "run", "empty", cwd=folder)
    assert done.returncode == 130 and "interrupted" in done.stderr
    assert not list((folder / "empty").iterdir()) and not list(folder.glob(".empty*"))


# --- the hub, by a stand-in


def push(folder: Path, out: str, token: str = hub_stand_in.TOKEN) -> subprocess.CompletedProcess:
    return verl("export", "run", out, "--push", "me/mine", cwd=folder, HF_TOKEN=token)


def test_it_is_pushed_to_a_new_private_repository(folder, exported):
    with hub_stand_in.stand_in() as hub:
        done = push(folder, "pushed")
        assert done.returncode == 0, done.stderr
        assert f"uploaded to {hub.address}/me/mine" in done.stdout
    assert hub.repository == "me/mine" and hub.visibility == "private"
    written = {file.name: file.read_bytes() for file in (folder / "pushed").iterdir()}
    assert {name: hub.files[name] for name in written} == written and hub.objects, "and the weights by LFS"
    assert b"# me/mine" in hub.files["README.md"] and hub_stand_in.TOKEN.encode() not in b"".join(written.values())


@pytest.mark.parametrize(
    ("token", "says"),
    [("", "not logged in to the hub, where me/mine is: run `hf auth login`"), ("hf_wrong", "cannot push to me/mine")],
)
def test_one_who_is_not_logged_in_is_told_before_the_conversion(folder, monkeypatch, token, says):
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "no-such-file"))
    with hub_stand_in.stand_in():
        done = push(folder, "early", token)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (folder / "early").exists()


def test_an_upload_that_is_refused_leaves_the_export_and_says_how_to_try_again(folder, exported):
    with hub_stand_in.stand_in() as hub:
        hub.refuse = 403
        done = push(folder, "refused")
    assert done.returncode == 2 and "try again by `hf upload me/mine refused`" in done.stderr, done.stderr
    assert (folder / "refused" / "model.safetensors").is_file()
