"""Prompts are counted, and chat templates applied, by transformers."""

import json
from pathlib import Path

import pytest
from command import verl
from composed import load
from data_files import brief, found, rows, write
from typer.testing import CliRunner

from justrl_recipe import checks
from justrl_recipe.checks import Problem, data_rows
from justrl_recipe.cli import app
from justrl_recipe.config import Request, load_base
from justrl_recipe.cpu.tiny_model import build_tokenizer
from justrl_recipe.data import schema
from justrl_recipe.errors import UserError

MODEL = "actor_rollout_ref.model"
REFUSES = "{{ raise_exception('no system message') }}"
RAISES = "{{ messages[0]['content'].nothing() }}"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer(["Problem" + schema.TRAINING_SUFFIX] * 20).save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return folder


def with_template(model: Path, folder: Path, template: str | None) -> str:
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return str(folder)


LONG = "Problem {}. " + "and so on, " * 60 + schema.INSTRUCTION


@pytest.mark.parametrize(
    ("fit", "overrides", "expected"),
    [
        (0, [], [("prompt-length", "error")]),
        (15, [], [("prompt-length", "error")]),
        (16, [], [("prompt-length", "warning")]),
        (16, ["trainer.total_epochs=4"], [("prompt-length", "warning"), ("data-steps", "error")]),
        (16, ["trainer.total_epochs=5"], [("prompt-length", "warning")]),
        (16, ["data.train_max_samples=100", "data.shuffle=false"], [("prompt-length", "error")]),
        (0, ["data.max_prompt_length=2000"], []),
        (0, ["data.filter_overlong_prompts=false"], [("prompt-length", "error")]),
        (300, [], []),
    ],
)
def test_prompts_that_are_too_long(tmp_path, model, fit, overrides, expected):
    entries = rows(300 - fit, prompt=LONG) + rows(fit)
    for number, entry in enumerate(entries):
        entry["prompt"][0]["content"] += f" {number}"
    file = write(tmp_path / "f.parquet", entries)
    problems = found(file, f"{MODEL}.path={model}", "data.max_prompt_length=100", *overrides)
    assert brief(problems) == expected
    if expected == [("prompt-length", "error")] and fit == 15:
        assert "15 of 300 prompts have at most data.max_prompt_length=100 tokens" in problems[0].why


def test_validation_prompts_that_are_all_too_long(tmp_path, model):
    file, val = write(tmp_path / "f.parquet", rows(300)), write(tmp_path / "v.parquet", rows(8, prompt=LONG))
    [problem] = found(file, f"{MODEL}.path={model}", "data.max_prompt_length=100", f"data.val_files={val}")
    assert (problem.key, problem.check, problem.level) == ("data.val_files", "prompt-length", "error")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template"),
        (REFUSES, "refuses all 300 prompts"),
        (RAISES, "refuses all 300 prompts"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)
def test_chat_templates_that_make_no_prompt(tmp_path, model, template, says):
    folder = with_template(model, tmp_path / "model", template)
    file = write(tmp_path / "f.parquet", rows(300))
    problems = found(file, f"{MODEL}.path={folder}")
    assert says in problems[0].why and {problem.check for problem in problems} == {"chat-template"}
    good = "+actor_rollout_ref.model.custom_chat_template='{{messages[0].content}}'"
    assert found(file, f"{MODEL}.path={folder}", good.removeprefix("+")) == []
    done = CliRunner().invoke(app, ["data", "check", file, "--tokenizer", folder])
    if template is None:
        assert done.exit_code == 2 or isinstance(done.exception, UserError)
    else:
        assert done.exit_code == 1 and "prompt that the chat template refuses" in done.output


@pytest.mark.parametrize("spoil", ["template", "vocabulary"])
def test_prompts_without_a_token_of_their_text(tmp_path, model, spoil):
    """transformers makes a tokenizer without its vocabulary, and vLLM fails at the prompts after minutes."""
    folder = Path(
        with_template(model, tmp_path / "model", "" if spoil == "template" else "{{ messages[0].content }}")
    )
    if spoil == "vocabulary":
        (folder / "tokenizer.json").unlink()
    file = write(tmp_path / "f.parquet", rows(300))
    problems = found(file, f"{MODEL}.path={folder}")
    assert brief(problems) == [("chat-template", "error")] * 2 and "makes no token" in problems[0].why
    done = CliRunner().invoke(app, ["data", "check", file, "--tokenizer", str(folder)])
    assert done.exit_code == 1 and "x prompt of which the tokenizer makes no token 300 100.0%" in " ".join(
        done.output.split()
    )


def test_arguments_of_the_chat_template_count(tmp_path, model):
    template = "{{ messages[0].content }}{% if think %}{{ 'think ' * 200 }}{% endif %}"
    folder = with_template(model, tmp_path / "model", template)
    file = write(tmp_path / "f.parquet", rows(300))
    given = [f"{MODEL}.path={folder}", "data.max_prompt_length=100"]
    assert found(file, *given) == []
    problems = found(file, *given, "+data.apply_chat_template_kwargs.think=true")
    assert {problem.check for problem in problems} == {"prompt-length"}


def test_a_tokenizer_elsewhere_and_one_that_is_nowhere(tmp_path, model):
    file = write(tmp_path / "f.parquet", rows(300))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text("{}")
    [problem] = found(file, f"{MODEL}.path={tmp_path}/bare")
    assert "has no tokenizer" in problem.why and problem.level == "error"
    assert found(file, f"{MODEL}.path={tmp_path}/bare", f"{MODEL}.tokenizer_path={model}") == []
    assert found(file, f"{MODEL}.path=nobody/no-such-model") == []  # the caller says that it is not here
    none = f"{tmp_path}/none.parquet"
    problems = found(none, f"data.val_files={none}", f"{MODEL}.path={tmp_path}/bare")  # before there are data
    assert brief(problems) == [("data-file", "error")] * 2 + [("chat-template", "error")]
    (tmp_path / "bare/tokenizer.json").write_text("{broken")
    [problem] = found(file, f"{MODEL}.path={tmp_path}/bare")
    assert "no tokenizer" in problem.why and problem.level == "error"


def test_a_tokenizer_with_code_of_its_own_is_not_run_and_nothing_is_asked(tmp_path, model):
    """transformers asks [y/N] on a terminal where trust_remote_code has no value."""
    folder = Path(with_template(model, tmp_path / "model", "{{ messages[0].content }}"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}))
    (folder / "mine.py").write_text("open('ran', 'w')\n")
    file = write(tmp_path / "f.parquet", rows(300))
    done = verl("data", "check", file, "--tokenizer", folder, cwd=tmp_path, stdin="y\ny\n")
    assert "Traceback" not in done.stderr and "y/N" not in done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()


def test_counting_stops_at_enough_prompts(tmp_path, model, monkeypatch):
    counted = []
    of = data_rows.Lengths.of
    monkeypatch.setattr(data_rows.Lengths, "of", lambda self, prompt: counted.append(1) or of(self, prompt))
    file = write(tmp_path / "f.parquet", rows(5000))
    assert found(file, f"{MODEL}.path={model}") == []
    assert len(counted) <= 16 + 1  # a batch of training, one prompt of validation
    counted.clear()
    monkeypatch.setattr(data_rows, "MOST_COUNTED", 100)
    problems = found(file, f"{MODEL}.path={model}", "data.max_prompt_length=5")
    assert ("prompt-length", "error") in brief(problems) and len(counted) <= 110


def test_check_counts_tokens_as_verl_does(tmp_path):
    build_tokenizer(["What is it? that"] * 20).save_pretrained(tmp_path / "tokenizer")
    write(tmp_path / "f.parquet", [*rows(1), *rows(1, prompt="What is that? " * 50 + schema.INSTRUCTION)])
    done = verl(*("data", "check", "f.parquet", "--tokenizer", "tokenizer", "--limit", "150", "--json"), cwd=tmp_path)
    counted = {f["name"]: f for f in json.loads(done.stdout)["findings"]}["prompt longer than 150 tokens"]
    assert counted["rows"] == [2] and done.returncode == 1
    done = verl("data", "check", "f.parquet", "--tokenizer", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and "no tokenizer nowhere" in done.stderr


# A model's shape, which is looked at beside its tokenizer


def of_model(folder: Path, shape: dict, *overrides: str) -> list[Problem]:
    """What is wrong with the files of a run with fit data."""
    (folder / "config.json").write_text(json.dumps(shape))
    (folder / "model.safetensors").touch()
    build_tokenizer(["Problem" + schema.TRAINING_SUFFIX] * 20).save_pretrained(folder)
    file = write(folder / "f.parquet", rows(300))
    files = [f"data.train_files={file}", f"data.val_files={file}", f"{MODEL}.path={folder}", "trainer.save_freq=-1"]
    composed = load(Request("justrl_deepseek", overrides=(*files, *overrides)))
    base = load_base()
    return [*checks.of_files(composed, base, folder), *checks.of_prompts(composed, base)]


def test_a_model_whose_context_is_too_short(tmp_path):
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"vocab_size": 100, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    [problem] = of_model(tmp_path, {**shape, "max_position_embeddings": 4096})
    assert problem.key == "data.max_response_length" and problem.level != "unchecked"
    assert "context of 4096" in problem.why and "at most 3072" in problem.fix


@pytest.mark.parametrize(
    ("overrides", "key", "says"),
    [
        (
            ["actor_rollout_ref.model.fused_kernel_options.impl_backend=triton"],
            "actor_rollout_ref.model.fused_kernel_options.impl_backend",
            "multiples of 128, the model's is 576",
        ),
        (
            ["actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=50"],
            "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes",
            "50 MB do not hold the model's embedding of 54",
        ),
    ],
)
def test_what_does_not_go_with_a_models_shape(tmp_path, overrides, key, says):
    """SmolLM2-135M's shape, which veRL meets with an AssertionError after minutes."""
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    shape |= {"num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 32768}
    shape |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert of_model(tmp_path, shape) == []
    [problem] = of_model(tmp_path, shape, *overrides)
    assert problem.key == key and says in problem.why and problem.level != "unchecked"


@pytest.mark.parametrize(
    ("tied", "backend", "fix"),
    [
        (True, "triton", "fused_kernel_options.impl_backend=torch"),
        (True, "torch", None),
        (False, "triton", "fused_kernel_options.impl_backend=torch"),
        (False, "torch", None),
    ],
)
def test_fsdp2_beside_verls_fused_log_probs(tmp_path, tied, backend, fix):
    """On a GPU: `Both operands must be same dtype. Got bf16 and fp32` of Triton."""
    shape = {"hidden_size": 1536, "intermediate_size": 1536, "num_hidden_layers": 2, "num_attention_heads": 12}
    shape |= {"num_key_value_heads": 2, "vocab_size": 49152, "max_position_embeddings": 32768}
    shape |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": tied}
    fused = ["actor_rollout_ref.model.use_fused_kernels=true", "actor_rollout_ref.actor.strategy=fsdp2"]
    problems = of_model(
        tmp_path, shape, *fused, f"actor_rollout_ref.model.fused_kernel_options.impl_backend={backend}"
    )
    assert len(problems) == (fix is not None)
    for problem in problems:
        assert problem.key == "actor_rollout_ref.actor.strategy" and fix in problem.fix
