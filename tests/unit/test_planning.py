"""What `verl plan` says a run takes, beside what was measured and what veRL writes."""

import copy
import functools
import json
import runpy
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from command import verl
from composed import load
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.checks import combinations
from justrl_recipe.config import SYSTEMS, Config, Request, names, put
from justrl_recipe.planning import cost, memory
from justrl_recipe.planning.fit import at_least, fit
from justrl_recipe.planning.model_shape import KNOWN, Shape, find

ROOT = Path(__file__).parents[2]
DEEPSEEK = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
GIB = memory.GIB


@functools.cache
def config(*overrides: str, system: str = "h100x8", recipe: str = "justrl_deepseek") -> dict:
    return load(Request(recipe, system, overrides=overrides)).values


def shape() -> Shape:
    found = find(DEEPSEEK)
    assert found is not None
    return found


def test_the_papers_models_need_no_download():
    assert KNOWN.is_file()
    assert (shape().parameters, shape().context) == (1_777_088_000, 131_072)
    nemotron = find("nvidia/OpenMath-Nemotron-1.5B")
    assert nemotron is not None and nemotron.parameters == 1_543_714_304


def test_estimates_are_within_a_quarter_of_what_was_measured():
    bench = runpy.run_path(str(ROOT / "benchmarks" / "planning.py"))
    runs = bench["runs"]()
    assert len(runs) >= 3
    for run in runs:
        assert bench["estimate"](run) == pytest.approx(run["peak_gib"], rel=0.25)


def total(*overrides: str, system: str = "h100x8", phase: int = 0) -> float:
    return memory.peaks(shape(), config(*overrides, system=system), 80 * GIB)[phase] / GIB


def test_what_each_setting_is_good_for():
    model, budget = "actor_rollout_ref.model", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
    assert total(f"{budget}=32768") > 1.6 * total()
    assert total(f"{model}.use_liger=false") > 1.3 * total()
    plain = [f"{model}.enable_gradient_checkpointing=true", f"{budget}=32768"]
    assert total(*plain) < 0.5 * total(f"{budget}=32768")
    assert total(*plain, f"{model}.use_fused_kernels=false") > 1.6 * total(*plain)
    offload = "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true"
    assert total(offload) == total() and total(offload, phase=1) < total(phase=1)
    assert total("trainer.n_gpus_per_node=4") > total() > total(system="a800x32")


def test_a_micro_batch_is_no_larger_than_what_a_gpu_gets():
    assert memory.tokens_of_micro_batch(config()) == 16_384
    assert memory.tokens_of_micro_batch(load(Request("justrl_tiny")).values) == 4 * 8 * (64 + 24)


def test_lora_trains_its_adapters_alone():
    """Rank 8 beside q, k, v, o, gate, up and down of 28 layers: 8 x (sum of both widths of each matrix)."""
    widths = [(1536, 1536), (1536, 256), (1536, 256), (1536, 1536), (1536, 8960), (1536, 8960), (8960, 1536)]
    adapters = 28 * 8 * sum(into + out for into, out in widths)
    model = "actor_rollout_ref.model"
    lora = [f"{model}.lora_rank=8", f"{model}.lora_alpha=16"]
    found = {row.name: row for row in memory.rows(shape(), config(*lora, system="h200x1"), 80 * GIB)}
    assert found["gradients, LoRA of rank 8"].update == 4 * adapters
    assert found["Adam's two moments, LoRA of rank 8"].update == 8 * adapters
    assert found["weights, fp32, over 1 GPU"].update == 4 * (shape().parameters + adapters)
    assert cost.checkpoint_bytes(config(*lora), shape()) == 4 * shape().parameters + 12 * adapters
    queries = config(*lora, f"{model}.target_modules=[q_proj]", system="h200x1")
    assert cost.checkpoint_bytes(queries, shape()) - 4 * shape().parameters == 12 * 28 * 8 * (1536 + 1536)


@pytest.mark.parametrize("kl", ["actor_rollout_ref.actor.use_kl_loss=true", "algorithm.use_kl_in_reward=true"])
def test_a_reference_model_takes_the_hosts_memory(kl):
    weights = 4 * shape().parameters / 8
    assert memory.on_host(shape(), config()) == 0
    assert memory.on_host(shape(), config(kl)) == weights and total(kl) == total()
    assert memory.on_host(shape(), config(kl, "actor_rollout_ref.model.lora_rank=8")) == 0
    tiny = Shape.of({**config(recipe="justrl_tiny", system="cpu")["tiny_model"], **TINY})
    with_it, without = (config(*given, recipe="justrl_tiny", system="cpu") for given in ([kl], []))
    more = memory.peaks(tiny, with_it, GIB)[1] - memory.peaks(tiny, without, GIB)[1]
    assert more == pytest.approx(4 * tiny.parameters)


TINY = {"vocab_size": 512, "max_position_embeddings": 8192}


def test_what_fsdp2_offloads_is_in_the_hosts_memory_and_not_on_the_gpu():
    fsdp = "actor_rollout_ref.actor.fsdp_config"
    moments = config(f"{fsdp}.optimizer_offload=true", system="h200x1")
    assert memory.on_host(shape(), moments) == 8 * shape().parameters
    offload = ("actor_rollout_ref.actor.strategy=fsdp2", f"{fsdp}.offload_policy=true")
    assert memory.on_host(shape(), config(*offload, system="h200x1")) == 16 * shape().parameters
    state = memory.rows(shape(), config(*offload, system="h200x1"), GIB)[:3]
    assert [(row.update, row.rollout) for row in state] == [(0, 0)] * 3


@given(
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([8, 10, 16, 24, 40, 48, 80, 141]),
    st.sampled_from(["fsdp", "fsdp2"]),
    st.booleans(),
)
def test_what_is_proposed_makes_it_fit_and_is_what_validate_accepts(gpus, size, strategy, offload):
    values = copy.deepcopy(config())
    values["trainer"] |= {"nnodes": 1, "n_gpus_per_node": gpus}
    values["actor_rollout_ref"]["actor"]["strategy"] = strategy
    values["actor_rollout_ref"]["actor"]["fsdp_config"]["offload_policy"] = offload
    values["actor_rollout_ref"]["model"]["use_fused_kernels"] = strategy == "fsdp"
    assert combinations.of_model(Config({}, values), shape()) == []
    found = fit(shape(), values, size * GIB)
    for key, value in found.changes.items():
        put(values, key, value)
    assert combinations.of_model(Config({}, values), shape()) == []
    assert max(memory.peaks(shape(), values, size * GIB)) == pytest.approx(size * GIB + found.over) or not found.over
    assert (max(memory.peaks(shape(), values, size * GIB)) <= size * GIB) == (found.over == 0)


@pytest.mark.parametrize("system", [name for name in names(SYSTEMS) if name != "cpu"])
def test_the_full_recipe_fits_every_gpu_system(system):
    values = config(system=system)
    size = values["machine"]["memory_gib"] * GIB
    assert max(memory.peaks(shape(), values, size)) <= size
    assert memory.responses_at_once(shape(), values, size) >= (64 if size > 48 * GIB else 16)


def test_tokens_are_the_papers():
    assert cost.most_tokens(config()) == pytest.approx(1.4e11, rel=0.02)
    assert cost.most_tokens(config(recipe="justrl_nemotron")) == pytest.approx(1.1e11, rel=0.02)
    assert 4_500 < cost.expected_length(config()) < 5_500


def test_hours_are_the_papers_at_the_papers_throughput():
    """32 GPUs for 15 days."""
    paper = cost.measured("justrl_deepseek", "A800-80GB", config(system="a800x32"), shape().parameters)
    assert paper is not None
    hours = cost.gpu_hours(config(), cost.expected_length(config()), paper.tokens_per_second)
    assert hours / 32 / 24 == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize("system", ["h200x1", "h100x8"])
def test_hours_are_planned_at_what_was_measured(system):
    bench = runpy.run_path(str(ROOT / "benchmarks" / "performance.py"))
    values = config(system=system)
    found = cost.measured("justrl_deepseek", values["machine"]["name"], values, shape().parameters)
    assert found is not None
    assert found.tokens_per_second == pytest.approx(bench["estimated"](system), abs=5)


def hours_are_known(gpu: str, *overrides: str, system: str, recipe: str = "justrl_deepseek") -> bool:
    values = config(*overrides, system=system, recipe=recipe)
    return cost.measured(recipe, gpu, values, shape().parameters) is not None


@pytest.mark.parametrize("recipe", ["justrl_deepseek", "justrl_nemotron"])
def test_hours_belong_to_a_kind_and_a_number_of_gpus_in_a_node(recipe):
    """Whatever the system is called: `--system gpu` has the name that nvidia-smi shows."""
    for gpu, system in [("NVIDIA H200", "h200x1"), ("H200", "h200x2"), ("NVIDIA H100 80GB HBM3", "h100x8")]:
        assert hours_are_known(gpu, system=system, recipe=recipe)
    assert not hours_are_known("NVIDIA H100 PCIe", system="h100x8", recipe=recipe)
    assert not hours_are_known("H100-80GB", "trainer.n_gpus_per_node=4", system="h100x8", recipe=recipe)


@pytest.mark.parametrize("key", cost.UNMEASURED)
def test_hours_are_unknown_with_what_was_not_measured(key):
    value = "8" if key.endswith("rank") else "true"
    assert hours_are_known("H200", system="h200x1") and not hours_are_known("H200", f"{key}={value}", system="h200x1")


def test_checkpoints_on_disk():
    assert cost.checkpoint_bytes(config(), shape()) == 12 * shape().parameters
    assert cost.checkpoints(config()) == 88 and cost.checkpoints(config("trainer.max_actor_ckpt_to_keep=2")) == 4
    assert (
        cost.checkpoints(config("trainer.save_freq=-1")) == 0
        and cost.checkpoints(config("trainer.save_freq=4000")) == 2
    )
    twice = config("actor_rollout_ref.actor.fsdp_config.fsdp_size=4")
    assert cost.checkpoint_bytes(twice, shape()) == 2 * cost.checkpoint_bytes(config(), shape())


def plan(*arguments: str, cwd: Path) -> CompletedProcess:
    return verl("plan", *arguments, cwd=cwd)


def test_the_command_says_whether_it_fits_and_what_to_change(tmp_path):
    result = plan("justrl_deepseek", "--gpus", "1", "--memory", "80", cwd=tmp_path)
    assert result.returncode == 0
    [line] = [line for line in result.stdout.splitlines() if line.startswith("does not fit")]
    overrides = line.split("give ")[1].split()
    better = plan("justrl_deepseek", "--gpus", "1", "--memory", "80", *overrides, cwd=tmp_path)
    assert "\nfits, " in better.stdout
    none = plan("justrl_deepseek", "--gpus", "1", "--memory", "8", cwd=tmp_path)
    assert "tried actor_rollout_ref.model.enable_gradient_checkpointing=true" in none.stdout
    assert "GiB over: it takes more GPUs, or larger ones" in none.stdout
    assert list(tmp_path.iterdir()) == []


def test_memory_is_in_gib_on_the_command_line_and_in_a_system(tmp_path):
    """nvidia-smi shows 24,564 MiB of an RTX 4090."""
    given = plan("justrl_deepseek", "--system", "h200x1", "--memory", "24", cwd=tmp_path).stdout.splitlines()
    system = ["--system", "h200x1", "machine.memory_gib=24"]
    written = plan("justrl_deepseek", *system, cwd=tmp_path).stdout.splitlines()
    assert given[0] == "justrl_deepseek on 1 x GPU, 24 GiB each"
    assert written[0] == "justrl_deepseek on 1 x H200, 24 GiB each"
    assert given[1:16] == written[1:16]


def test_a_throughput_is_of_the_kind_of_gpu_and_the_size_of_model_that_it_was_measured_on(tmp_path):
    renamed = plan("justrl_deepseek", "--system", "h200x1", "machine.name=RTX4090", cwd=tmp_path)
    assert "GPU hours    unknown" in renamed.stdout
    smaller = plan(
        *("justrl_deepseek", "--system", "h200x1"),
        "actor_rollout_ref.model.path=HuggingFaceTB/SmolLM2-135M-Instruct",
        "data.max_response_length=4096",
        "actor_rollout_ref.model.fused_kernel_options.impl_backend=torch",
        cwd=tmp_path,
    )
    assert "GPU hours    unknown" in smaller.stdout


def test_the_command_plans_the_tiny_recipe_before_its_model_is_made(tmp_path):
    result = plan("justrl_tiny", cwd=tmp_path)
    assert result.returncode == 0 and "fits" in result.stdout and "GPU hours" in result.stdout


LORA = ("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha=16")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpus", "4", "--system", "h100x8"], "give one of them"),
        (["--gpus", "12"], "nodes of 8"),
        (["data.train_batch_size=100"], "not a multiple"),
        (["actor_rollout_ref.model.path=nobody/none"], "hf download nobody/none"),
        (["--system", "h100x9"], "h100x8"),
        (["--gpus", "1", "--memory", "1e999"], "--memory inf: give a number above 0"),
        (["--gpus", "1", "--memory", "nan"], "--memory nan: give a number above 0"),
        (["--throughput", "inf"], "--throughput inf: give a number above 0"),
        (["--throughput=-1"], "--throughput -1.0: give a number above 0"),
        (["machine.memory_gib=-5"], "machine.memory_gib: -5 is not a finite number above 0"),
        (["machine.memory_gib=inf"], "machine.memory_gib: inf is not a finite number above 0"),
        (["machine.name="], "machine.name: it is empty"),
        (["actor_rollout_ref.rollout.gpu_memory_utilization=inf"], "is not a finite number above 0"),
        (["actor_rollout_ref.model.lora_rank=-8"], "lora_rank: -8 is below 0"),
        (
            [*LORA, "actor_rollout_ref.model.target_modules=.*q_proj"],
            "target_modules=.*q_proj of LoRA is not counted",
        ),
        ([*LORA, "actor_rollout_ref.model.target_modules=[lm_head]"], "give all-linear, or a list of q_proj"),
    ],
)
def test_a_mistake_is_one_line(arguments, says, tmp_path):
    result = plan("justrl_deepseek", *arguments, cwd=tmp_path)
    assert result.returncode == 2 and says in result.stderr and result.stderr.count("\n") == 1


def test_listed_modules_of_lora_are_counted(tmp_path):
    result = plan("justrl_deepseek", *LORA, "actor_rollout_ref.model.target_modules=[q_proj,v_proj]", cwd=tmp_path)
    assert result.returncode == 0 and "LoRA of rank 8" in result.stdout


QWEN = {
    **{"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{
        "vocab_size": 1000,
        "max_position_embeddings": 32768,
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
    },
}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model_type": "qwen3_moe", "num_experts": 64, "moe_intermediate_size": 32}, "a mixture of experts"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "a mixture of experts"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "m.M"}}, "needs its own code"),
        (
            {"model_type": "gemma3_text", "sliding_window": 512, "layer_types": ["sliding_attention"]},
            "sliding window",
        ),
    ],
)
def test_a_model_that_is_not_estimated_or_not_run_is_one_line(tmp_path, content, says):
    (tmp_path / "config.json").write_text(json.dumps({**QWEN, **content}))
    model = f"actor_rollout_ref.model.path={tmp_path}"
    result = plan("justrl_deepseek", "--system", "h200x1", model, cwd=tmp_path)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and says in errors[0]


def test_what_has_no_effect_is_a_line(tmp_path):
    offload = "actor_rollout_ref.actor.fsdp_config.offload_policy=true"
    result = plan("justrl_deepseek", offload, cwd=tmp_path)
    assert result.returncode == 0 and "strategy=fsdp2" in result.stderr


def test_a_model_that_other_commands_make_is_named_with_them(tmp_path):
    result = plan("justrl_smollm2", cwd=tmp_path)
    assert result.returncode == 2 and "the recipe's head says where its own comes from (verl cat)" in result.stderr


def test_what_is_over_never_reads_as_nothing(tmp_path):
    assert str(fit(shape(), copy.deepcopy(config()), 0)).endswith(" GiB over") and at_least(1) == "0.1"
    on_cpu = plan("justrl_tiny", "machine.memory_gib=2", cwd=tmp_path)
    assert on_cpu.stdout.count("it takes more memory") == 1 and "more GPUs" not in on_cpu.stdout


def test_a_model_folder_gives_its_own_shape(tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(sizes | {"vocab_size": 100, "max_position_embeddings": 64}))
    found = find(str(tmp_path))
    assert found is not None and (found.layers, found.kv_heads, found.head_size, found.tied) == (2, 4, 16, False)
