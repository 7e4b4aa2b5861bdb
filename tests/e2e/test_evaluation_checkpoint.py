"""From a training run to the model that `verl eval` loads: merging, LoRA, chat templates, and what is refused."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from justrl_recipe.checkpoints import MARKER
from justrl_recipe.config import Request, load
from justrl_recipe.cpu import tiny_model
from justrl_recipe.data import schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import checkpoints, evaluation_run, models, vllm_engine
from justrl_recipe.evaluation.evaluation_run import ABOUT, RESPONSES, claim
from justrl_recipe.evaluation.generation import EngineOptions, Prompt, Sampling, Workload
from justrl_recipe.evaluation.models import Model, Template

WEIGHT, OTHER, EMBEDDING = (
    "model.layers.0.q_proj.weight",
    "model.layers.0.up_proj.weight",
    "model.embed_tokens.weight",
)
MANIFEST = {
    "recipe": "justrl_tiny",
    "ablations": ["overlong_penalty"],
    "is_justrl": False,
    "seed": 7,
    "deviations": [],
}


def base() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {WEIGHT: (6, 4), OTHER: (8, 4), EMBEDDING: (10, 4)}
    return {name: torch.randn(shape).bfloat16() for name, shape in shapes.items()}


def adapter(name: str, rank: int, embedding: bool = False) -> dict[str, torch.Tensor]:
    """A and B of one weight, named as veRL's merger names them."""
    torch.manual_seed(rank)
    rows, columns = base()[name].shape
    module, (outer, inner) = name.removesuffix(".weight"), (columns, rows) if embedding else (rows, columns)
    kind, end = ("lora_embedding_", "default") if embedding else ("lora_", "weight")
    return {
        f"base_model.model.{module}.{kind}A.{end}": torch.randn(rank, inner).bfloat16(),
        f"base_model.model.{module}.{kind}B.{end}": torch.randn(outer, rank).bfloat16(),
    }


def write_merged(made: Path, parts: dict[str, torch.Tensor] | None, alpha: float = 16, **config) -> Path:
    """A folder as veRL's merger leaves it: base weights in two files, and the adapter beside them."""
    made.mkdir(parents=True)
    (made / "config.json").write_text(json.dumps(config))
    (made / "tokenizer.json").write_text("{}")
    weights, files = base(), {"model-1.safetensors": [WEIGHT], "model-2.safetensors": [OTHER, EMBEDDING]}
    for file, names in files.items():
        save_file({name: weights[name] for name in names}, made / file, metadata={"format": "pt"})
    index = {"weight_map": {name: file for file, names in files.items() for name in names}}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    if parts is not None:
        (made / checkpoints.ADAPTER).mkdir()
        save_file(parts, made / checkpoints.ADAPTER / "adapter_model.safetensors")
        (made / checkpoints.ADAPTER / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha, "r": 8}))
    return made


def weights_of(made: Path) -> dict[str, torch.Tensor]:
    return {name: weight for file in made.glob("*.safetensors") for name, weight in load_file(file).items()}


# --- LoRA


@pytest.mark.parametrize("alpha", [1, 16, 64])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("names", [(WEIGHT,), (WEIGHT, OTHER), (EMBEDDING,), (OTHER, EMBEDDING)])
def test_an_adapter_is_folded_as_w_plus_alpha_over_r_b_a(tmp_path, alpha, rank, names):
    parts = {key: part for name in names for key, part in adapter(name, rank, name == EMBEDDING).items()}
    made = write_merged(tmp_path / "merged", parts, alpha)
    checkpoints.fold_adapter(made, tmp_path)
    found, sides = weights_of(made), list(parts.values())
    for name, weight in base().items():
        if name not in names:
            assert torch.equal(found[name], weight) and found[name].dtype == torch.bfloat16
            continue
        a, b = (side.double() for side in sides[2 * names.index(name) :][:2])
        update = (b @ a).T if name == EMBEDDING else b @ a
        torch.testing.assert_close(
            found[name].double(), weight.double() + alpha / rank * update, rtol=1e-5, atol=1e-5
        )
    assert not (made / checkpoints.ADAPTER).exists()


def test_an_update_smaller_than_bfloat16_s_step_is_kept_and_its_loss_is_recorded(tmp_path):
    parts = {key: part * 1e-3 for key, part in adapter(WEIGHT, 2).items()}
    made = write_merged(tmp_path / "merged", parts, alpha=2)
    checkpoints.fold_adapter(made, tmp_path)
    assert not torch.equal(weights_of(made)[WEIGHT], base()[WEIGHT].float())
    assert checkpoints.lora_record(made)["kept_in_bfloat16"] < 0.1


def renamed(old: str, new: str, of: str = WEIGHT) -> dict[str, torch.Tensor]:
    return {name.replace(old, new): part for name, part in adapter(of, 2).items()}


@pytest.mark.parametrize(
    ("parts", "alpha", "config", "says"),
    [
        (adapter(WEIGHT, 2), 0, {}, "scale is not known"),
        (renamed("q_proj", "experts"), 16, {}, "the model has no weight model.layers.0.experts.weight"),
        (renamed("lora_B", "lora_magnitude_vector"), 16, {}, "is not an A or B of plain LoRA"),
        (renamed("lora_B.weight", "lora_B.bias"), 16, {}, "is not an A or B of plain LoRA"),
        (dict(list(adapter(WEIGHT, 2).items())[:1]), 16, {}, "has no A and B that are matrices"),
        ({name: part[..., None, None] for name, part in adapter(WEIGHT, 2).items()}, 16, {}, "that are matrices"),
        (renamed("q_proj", "up_proj"), 16, {}, "up_proj.weight is (8, 4), its update (6, 4)"),
        (adapter(EMBEDDING, 2, True), 16, {"tie_word_embeddings": True}, "is also the model's output layer"),
    ],
)
def test_an_adapter_that_cannot_be_folded_is_refused(tmp_path, parts, alpha, config, says):
    made = write_merged(
        tmp_path / "merged", {name: part.contiguous() for name, part in parts.items()}, alpha, **config
    )
    with pytest.raises(UserError, match=re.escape(says)):
        checkpoints.fold_adapter(made, tmp_path)


# --- a run and its checkpoints


@pytest.fixture
def merger(monkeypatch):
    """Stands for veRL's merger: writes what it would, and counts its calls."""
    calls, parts = [], {"adapter": None}

    def merge(step: Path, target: Path, log: Path, trust: bool) -> None:
        calls.append(step)
        write_merged(target, parts["adapter"])

    monkeypatch.setattr(checkpoints, "_merge", merge)
    merge.calls, merge.parts = calls, parts  # type: ignore[attr-defined]
    return merge


def write_run(run: Path, steps: tuple[int, ...] = (3,), world_size: int = 2, **model) -> Path:
    """A run folder with checkpoints as veRL saves them."""
    for step in steps:
        actor = run / "checkpoints" / f"global_step_{step}" / "actor"
        (actor / "huggingface").mkdir(parents=True)
        for name in ("config.json", "tokenizer.json"):
            (actor / "huggingface" / name).write_text("{}")
        for rank in range(world_size):
            (actor / f"model_world_size_{world_size}_rank_{rank}.pt").write_text("")
        (actor / "fsdp_config.json").write_text(json.dumps({"world_size": world_size}))
    write_config(run, model=model)
    (run / "manifest.json").write_text(json.dumps(MANIFEST))
    return run


def write_config(run: Path, model: dict | None = None, **data) -> None:
    content = {"data": data, "actor_rollout_ref": {"model": model or {}}, "trainer": {"total_training_steps": 9}}
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def actor_of(run: Path, step: int = 3) -> Path:
    return run / "checkpoints" / f"global_step_{step}" / "actor"


@pytest.mark.parametrize("inner", ["", "checkpoints/global_step_3", "checkpoints/global_step_3/actor"])
def test_a_run_is_evaluated_by_its_folder_or_by_anything_of_its_checkpoint(tmp_path, merger, capsys, inner):
    run = write_run(tmp_path / "run")
    write_config(run, apply_chat_template_kwargs={"enable_thinking": False, "tokenize": True})
    found = models.find(str(run / inner))
    assert (found.name, found.folder.name) == ("run-global_step_3", "merged")
    assert found.template == Template(None, {"enable_thinking": False})
    assert {name: found.run[name] for name in ("recipe", "ablations", "is_justrl", "step", "steps")} == {
        "recipe": "justrl_tiny",
        "ablations": ["overlong_penalty"],
        "is_justrl": False,
        "step": 3,
        "steps": 9,
    }
    assert "was to train 9 steps: step 3 is used" in capsys.readouterr().err
    assert models.find(str(run / inner)) == models.find(str(found.folder)) == found and len(merger.calls) == 1
    assert torch.equal(weights_of(found.folder)[WEIGHT], base()[WEIGHT]), "a plain checkpoint was changed"


def test_a_run_stands_for_its_last_checkpoint_and_another_step_is_asked_for_by_its_folder(tmp_path, merger):
    run = write_run(tmp_path / "run", steps=(3, 6, 10))
    assert models.find(str(run)).run["step"] == 10
    assert models.find(str(run / "checkpoints" / "global_step_6")).run["step"] == 6


def test_a_checkpoint_that_was_not_saved_to_its_end_is_passed_over(tmp_path, merger, capsys):
    run = write_run(tmp_path / "run", steps=(3, 6, 10))
    (run / "checkpoints" / "global_step_6" / MARKER).write_text("{}")
    assert models.find(str(run)).run["step"] == 6
    assert "global_step_10 is passed over: it was not saved to its end" in capsys.readouterr().err


@pytest.mark.parametrize("known_by", ["config", "meta"])
def test_a_lora_run_is_evaluated_with_its_adapter(tmp_path, merger, known_by):
    merger.parts["adapter"] = adapter(WEIGHT, 2)
    run = write_run(tmp_path / "run", lora_rank=2 if known_by == "config" else 0)
    if known_by == "meta":
        (actor_of(run) / checkpoints.LORA_META).write_text("{}")
    (actor_of(run) / "huggingface" / "model.safetensors").write_text("with the names of wrapped layers")
    found = models.find(str(run))
    assert not torch.equal(weights_of(found.folder)[WEIGHT].bfloat16(), base()[WEIGHT])
    assert found.run["lora"]["lora_alpha"] == 16


@pytest.mark.parametrize(("size", "says"), [(1.0, ""), (1e-3, "on a GPU, keeps 0% of what")])
def test_what_bfloat16_takes_from_an_adapter_is_said_at_each_evaluation(tmp_path, merger, capsys, size, says):
    merger.parts["adapter"] = {name: part * size for name, part in adapter(WEIGHT, 2).items()}
    run = write_run(tmp_path / "run", lora_rank=2)
    for _ in range(2):
        models.find(str(run))
        said = capsys.readouterr().err
        assert says in said and ("keeps" in said) == bool(says)


@pytest.mark.parametrize(
    ("change", "merges"),
    [
        (lambda step: None, False),
        (lambda step: os.utime(step / "actor" / "model_world_size_2_rank_1.pt", (4e9, 4e9)), True),
        (lambda step: (step / "merged" / checkpoints.ADAPTER).mkdir(), True),  # base weights alone, as once merged
        (lambda step: [file.unlink() for file in (step / "actor").glob("*.pt")], False),  # removed to save the disk
    ],
    ids=["same", "newer shards", "adapter not folded", "shards removed"],
)
def test_a_merged_folder_is_used_while_it_is_of_these_shards(tmp_path, merger, change, merges):
    run = write_run(tmp_path / "run")
    models.find(str(run))
    change(actor_of(run).parent)
    assert torch.equal(weights_of(models.find(str(run)).folder)[WEIGHT], base()[WEIGHT])
    assert len(merger.calls) == 1 + merges
    assert not (actor_of(run).parent / "merged" / checkpoints.ADAPTER).exists()
    assert sorted(p.name for p in actor_of(run).parent.iterdir()) == ["actor", "merged"]


def cut(file: str):
    return lambda actor: (actor / file).unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut("model_world_size_2_rank_1.pt"), r"lacks 1 of 2 shards \(model_world_size_2_rank_1.pt\)"),
        (lambda actor: [file.unlink() for file in actor.glob("*.pt")], "save_contents of its run has no `model`"),
        (cut("fsdp_config.json"), "was not saved whole"),
        (lambda actor: (actor / "fsdp_config.json").write_text("{"), "was not saved whole"),
        (cut("huggingface/config.json"), "was not saved whole"),
        (lambda actor: (actor / "fsdp_config.json").write_text('{"world_size": 4}'), "lacks 4 of 4 shards"),
        (
            lambda actor: (actor / "huggingface/config.json").write_text('{"quantization_config": {}}'),
            "quantised model",
        ),
        (lambda actor: (actor / checkpoints.LORA_META).write_text("{}"), "adapter was not found in its shards"),
        (lambda actor: (actor.parents[2] / "config.yaml").write_text("- a"), "is not a resolved config"),
        (lambda actor: (actor.parents[2] / "manifest.json").write_text("{}"), "manifest.json is broken"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path, merger, spoil, says):
    run = write_run(tmp_path / "run", steps=(1, 3))
    spoil(actor_of(run))
    with pytest.raises(UserError, match=says):
        models.find(str(run))
    assert not list(actor_of(run).parent.glob("*merged*"))


@pytest.mark.parametrize(
    ("started_from", "says"),
    [
        ({"lora_alpha": 16, "use_rslora": True}, "use_rslora"),
        ({"lora_alpha": 16, "alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"lora_alpha": 16, "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_alpha": 0.5}, "lora_alpha 0.5"),
        (None, "cannot read"),
        ({"lora_alpha": 16, "rank_pattern": {"q_proj": 4}, "use_rslora": False, "modules_to_save": None}, None),
    ],
)
def test_an_adapter_that_a_run_started_from_must_have_a_scale_that_the_checkpoint_keeps(
    tmp_path, merger, started_from, says
):
    merger.parts["adapter"] = adapter(WEIGHT, 2)
    run = write_run(tmp_path / "run", lora_rank=2, lora_adapter_path=str(tmp_path))
    if started_from is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(started_from))
    if says is None:
        assert models.find(str(run)).run["lora"]
        return
    with pytest.raises(UserError, match=says):
        models.find(str(run))


@pytest.mark.parametrize("made_by", ["peft", "peft with the model's config", "veRL's merger", "cut off"])
def test_a_folder_that_is_not_the_whole_model_is_refused(tmp_path, made_by):
    path = tmp_path / "model"
    if made_by.startswith("peft"):
        path.mkdir()
        names = ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]
        for name in names + ["config.json"] * made_by.endswith("config"):
            (path / name).write_text("{}")
    else:
        write_merged(path, adapter(WEIGHT, 2) if "merger" in made_by else None)
    if made_by == "cut off":
        assert models.find(str(path)).folder == path
        (path / "model-2.safetensors").unlink()
    says = "model-2.safetensors is missing" if made_by == "cut off" else "LoRA adapter that is not merged"
    with pytest.raises(UserError, match=says):
        models.find(str(path))


# --- chat templates


def training_file(path: Path, *systems: str | None) -> Path:
    rows = []
    for number, system in enumerate(systems):
        row = schema.row("x", number, "train", "1 + 1?", "2")
        row["prompt"] = [{"role": "system", "content": system}] * (system is not None) + row["prompt"]
        rows.append(row)
    schema.write_parquet(path, rows)
    return path


@pytest.mark.parametrize(
    ("systems", "used", "says"),
    [
        ((None, None), None, ""),
        (("Be brief.", "Be brief."), "Be brief.", ""),
        (("Be brief.", None), None, "several system messages"),
        (("a", "b"), None, "several system messages"),
        ((), None, "not checked"),
    ],
)
def test_the_system_message_of_the_training_data_is_used(tmp_path, capsys, systems, used, says):
    file = training_file(tmp_path / "train.parquet", *systems) if systems else tmp_path / "moved.parquet"
    write_config(tmp_path, train_files=[str(file)])
    assert models.template_of(tmp_path).system == used
    assert says in capsys.readouterr().err


def test_a_relative_path_of_the_training_data_is_found_from_another_folder(tmp_path, capsys):
    file = training_file(tmp_path / "train.parquet", "Be brief.")
    write_config(tmp_path, train_files="no/such/folder/train.parquet")
    manifest = {"data": {"data.train_files": [{"path": str(file), "sha256": ""}]}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert models.template_of(tmp_path).system == "Be brief." and capsys.readouterr().err == ""
    (tmp_path / "manifest.json").write_text('{"data": [1]}')
    assert models.template_of(tmp_path).system is None and "not checked" in capsys.readouterr().err


def test_a_checkpoint_without_its_run_says_that_the_template_is_not_known(tmp_path, capsys):
    assert models.template_of(tmp_path) == Template() and "has no config.yaml" in capsys.readouterr().err


CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if brief %}<brief>{% endif %}"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_model.build_tokenizer(["user system 1 + 1 brief <>"])
    tokenizer.save_pretrained(path)
    tiny_model.build_model(load(Request("justrl_tiny")).values["tiny_model"], tokenizer).config.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (Template(), f"{tiny_model.USER}1 + 1{tiny_model.ASSISTANT}"),
        (Template(custom=CHAT), "<user>1 + 1"),
        (Template(custom=CHAT, arguments={"brief": True}), "<user>1 + 1<brief>"),
        (Template(custom=CHAT, arguments={"brief": False, "add_generation_prompt": False}), "<user>1 + 1"),
        (Template(custom=CHAT, system="brief"), "<system>brief<user>1 + 1"),
    ],
)
def test_prompts_are_made_with_the_template_of_the_training(tokenizer_folder, template, text):
    from transformers import AutoTokenizer

    model = Model(tokenizer_folder, "m", template)
    workload = Workload(model, [Prompt("x", "1 + 1")], [], Sampling(1.0, 1.0, 8))
    (ids,), _ = vllm_engine.prompt_ids(workload)
    assert AutoTokenizer.from_pretrained(tokenizer_folder).decode(ids) == text


def test_evaluations_with_different_templates_do_not_share_a_folder(tmp_path, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(evaluation_run, "_installed_vllm", lambda: "vllm")

    def about(template: Template, run: dict | None = None) -> dict:
        found = Model(tokenizer_folder, "m", template, run)
        return evaluation_run.from_model(found, [], Sampling(0.7, 0.9, 8), 0, EngineOptions()).about

    place = tmp_path / "out"
    with claim(place, about(Template())):
        (place / RESPONSES).write_text("{}\n")
    with claim(place, about(Template(), run={"recipe": "x"})):  # of the same weights more is known
        pass
    for other in (Template(custom=CHAT), Template(arguments={"enable_thinking": False}), Template(system="s")):
        with pytest.raises(UserError, match="chat_template null, now"), claim(place, about(other)):
            pytest.fail("the folder was handed over")
    assert json.loads((place / ABOUT).read_text())["run"] == {"recipe": "x"}


# --- with veRL's own merger


@pytest.fixture
def unmerged(tmp_path) -> tuple[Path, torch.nn.Module]:
    """A run that lacks only its shard, and the model that it trained."""
    run = write_run(tmp_path / "run", world_size=1, lora_rank=4)
    tokenizer = tiny_model.build_tokenizer(["1 + 1"])
    model = tiny_model.build_model(load(Request("justrl_tiny")).values["tiny_model"], tokenizer).bfloat16()
    model.config.architectures = ["Qwen2ForCausalLM"]
    for part in (model.config, tokenizer):
        part.save_pretrained(actor_of(run) / "huggingface")
    (actor_of(run) / checkpoints.LORA_META).write_text(json.dumps({"r": 4, "lora_alpha": 12}))
    return run, model


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "down_proj"]])
def test_verl_s_merger_and_the_folding_give_what_peft_merges(unmerged, modules):
    from peft import LoraConfig, get_peft_model

    run, model = unmerged
    before = {name: weight.float() for name, weight in model.state_dict().items()}
    config = LoraConfig(r=4, lora_alpha=12, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=False)
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
    torch.save(wrapped.state_dict(), actor_of(run) / "model_world_size_1_rank_0.pt")
    found = {name: weight.float() for name, weight in weights_of(models.find(str(run)).folder).items()}
    merged = wrapped.float().merge_and_unload().state_dict()
    assert any(not torch.equal(found[name], before[name]) for name in found)
    for name, weight in found.items():
        torch.testing.assert_close(weight, merged[name], rtol=1e-6, atol=1e-6)


def test_an_adapter_saved_without_its_base_is_refused(unmerged):
    run, _ = unmerged
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.default.weight"
    parts = {name.format("A"): torch.ones(4, 128), name.format("B"): torch.ones(128, 4)}
    torch.save(parts, actor_of(run) / "model_world_size_1_rank_0.pt")
    with pytest.raises(UserError, match="cannot merge"):  # else random weights would be evaluated
        models.find(str(run))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["actor_rollout_ref"]["actor"] = {"checkpoint": {"save_lora_only": True}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="save_lora_only"):
        models.find(str(run))


def test_checkpoints_below_a_variable_of_the_environment_are_found(tmp_path, monkeypatch):
    (tmp_path / "scratch" / "saved").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("trainer: {default_local_dir: '${oc.env:SCRATCH}/saved'}\n")
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    assert models.checkpoint_folder(tmp_path / "run") == tmp_path / "scratch" / "saved"
