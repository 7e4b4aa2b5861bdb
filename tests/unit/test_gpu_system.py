"""The system `gpu`: what GPUs amount to, and when a run gets it."""

import copy
import functools
import runpy
from pathlib import Path

import pytest
import yaml
from command import verl
from hypothesis import given
from hypothesis import strategies as st
from nvidia_driver import driver

from justrl_recipe import gpus, this_machine
from justrl_recipe.config import SYSTEMS, Request, leaves, put
from justrl_recipe.deviations import is_free
from justrl_recipe.errors import UserError
from justrl_recipe.gpus import Gpus
from justrl_recipe.planning import gpu_system, memory
from justrl_recipe.planning.model_shape import find

ROOT = Path(__file__).parents[2]
RTX4090 = "NVIDIA GeForce RTX 4090, 24564, 24100, 8.9"
CARD = Gpus("A card", 1, 80.0, 79.0, (9, 0))
SHAPE = find("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
BACKEND, UTILIZATION = gpu_system.BACKEND, gpu_system.UTILIZATION


@functools.cache
def shared() -> dict:
    return this_machine.on_shared(Request("justrl_deepseek"), CARD)


def settings(found: Gpus, flash_attention: bool = False) -> dict:
    assert SHAPE is not None
    chosen = gpu_system.settings(found, shared(), SHAPE, flash_attention)
    return {setting.key: setting.value for setting in chosen}


def card(memory_gib: float, capability: tuple[int, int] = (9, 0), count: int = 1, free: float | None = None) -> Gpus:
    return Gpus("A card", count, memory_gib, memory_gib if free is None else free, capability)


@given(
    st.floats(24, 300),
    st.sampled_from([(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]),
    st.integers(1, 16),
    st.floats(0.9, 1),
)
def test_whatever_is_set_fits_and_changes_nothing_that_is_learned(size, capability, count, free):
    chosen = settings(card(size, capability, count, free * size))
    values = copy.deepcopy(shared())
    for key, value in chosen.items():
        assert is_free(key, value), key
        put(values, key, value)
    assert max(memory.peaks(SHAPE, values, size * memory.GIB)) <= free * size * memory.GIB
    assert memory.responses_at_once(SHAPE, values, size * memory.GIB) >= 1
    assert 512 % chosen["trainer.n_gpus_per_node"] == 0


@given(st.floats(24, 300), st.integers(1, 16))
def test_the_file_holds_the_settings(size, count):
    chosen = gpu_system.settings(card(size, count=count), shared(), SHAPE, False)
    text = gpu_system.text(chosen, ["A head."])
    content = yaml.safe_load(text)
    assert content.pop("defaults") == ["shared/gpu", "_self_"]
    assert dict(leaves(content)) == {setting.key: setting.value for setting in chosen}
    assert text.startswith("# @package _global_\n# A head.\n")


@given(st.floats(24, 60))
def test_a_micro_batch_that_moves_the_model_has_as_many_full_sequences_as_fit(size):
    """Its transfers take the same time for one sequence as for many (docs/planning.md)."""
    budget, full = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu", memory.longest(shared())
    values = copy.deepcopy(shared())
    for key, value in settings(card(size)).items():
        put(values, key, value)
    chosen = values["actor_rollout_ref"]["actor"]["ppo_max_token_len_per_gpu"]
    if not values["actor_rollout_ref"]["actor"]["fsdp_config"]["offload_policy"]:
        assert chosen == full
        return
    assert chosen >= 4 * full and chosen % full == 0
    put(values, budget, chosen + full)
    assert memory.peaks(SHAPE, values, size * memory.GIB)[memory.UPDATE] > gpu_system.ROOM * size * memory.GIB


def test_triton_is_taken_where_it_was_measured():
    assert BACKEND not in settings(card(80, (9, 0)))
    assert {settings(card(80, capability))[BACKEND] for capability in [(8, 0), (8, 9), (10, 0), (12, 0)]} == {"torch"}


def test_flash_attention_is_taken_where_it_is_installed():
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    assert key not in settings(CARD) and settings(CARD, flash_attention=True)[key] == "flash_attention_2"


def test_memory_that_others_hold_is_not_taken():
    """vLLM refuses to start with a larger share than is free."""
    alone, shared = settings(card(80)), settings(card(80, free=60))
    assert shared[UTILIZATION] <= alone[UTILIZATION] - 0.25


def test_gpus_over_which_a_mini_batch_does_not_divide_are_left_out():
    [setting] = [s for s in gpu_system.settings(card(80, count=6), shared(), SHAPE, False) if "n_gpus" in s.key]
    assert setting.value == 4 and setting.why.startswith("of 6: a mini-batch of 512 responses")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (card(15, (7, 5)), "compute capability 7.5, .*: choose other GPUs"),
        (card(8), "tried actor_rollout_ref.model.enable_gradient_checkpointing=true .* GiB over"),
        (card(24, free=1), "an update takes .* hold 23.0 GiB of GPU 0, stop them or choose .* CUDA_VISIBLE_DEVICES"),
    ],
)
def test_gpus_on_which_the_run_does_not_fit_are_refused(found, says):
    with pytest.raises(UserError, match=says):
        settings(found)


@pytest.mark.parametrize("system", ["a100x8", "l40sx4", "rtx4090x1"])
def test_computed_systems_are_what_the_formulas_give(system):
    """`benchmarks/planning.py` writes them anew."""
    bench = runpy.run_path(str(ROOT / "benchmarks" / "planning.py"))
    text = (SYSTEMS / f"{system}.yaml").read_text()
    assert text == bench["system_file"](system) and "never run" in text


@pytest.mark.parametrize(("chosen", "count"), [(None, 3), ("", 0), ("-1", 0), ("1", 1), ("GPU-1a, GPU-2", 2)])
def test_the_gpus_are_those_that_are_visible(tmp_path, monkeypatch, chosen, count):
    monkeypatch.setenv("PATH", driver(tmp_path, 3, RTX4090))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    fullest = {"1": "1", "GPU-1a, GPU-2": "1"}.get(str(chosen), "0")
    found = gpus.find()
    assert found == (Gpus("NVIDIA GeForce RTX 4090", count, 24.0, 23.5, (8, 9), fullest) if count else None)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ("0,7", "'7' names no whole GPU"),
        ("0,9,1", "'9' names no whole GPU"),
        ("0,0", "'0' names a GPU again"),
        ("0,GPU-0a", "'GPU-0a' names a GPU again"),
        ("GPU-", "'GPU-' names several GPUs"),
        ("MIG-1", "'MIG-1' names no whole GPU"),
        ("0,", "'' names no whole GPU"),
    ],
)
def test_a_choice_that_cuda_would_cut_is_refused(tmp_path, monkeypatch, chosen, says):
    monkeypatch.setenv("PATH", driver(tmp_path, 3, RTX4090))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES") as error:
        gpus.find()
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"gpus": 0, "more": "NVIDIA-SMI has failed", "code": 9}, "exit code 9, and says 'NVIDIA-SMI has failed'"),
        ({"gpus": 0, "more": "garbage"}, "says 'garbage'"),
        ({"gpus": 0}, "says 'nothing'"),
        ({"more": "Unable to determine the device handle"}, "Unable to determine the device handle"),
        ({"more": "1, GPU-1a, NVIDIA H200", "code": 15}, "lists 1 GPUs, exit code 15"),
        *(
            ({"of": f"NVIDIA H200, {total}, {free}, {capability}"}, says)
            for total, free, capability, says in [
                ("inf", "1", "9.0", "memory.total='inf'"),
                ("nan", "nan", "9.0", "memory.total='nan'"),
                ("-5", "1", "9.0", "memory.total='-5'"),
                ("0", "0", "9.0", "memory.total='0'"),
                ("9" * 400, "1", "9.0", "memory.total="),
                ("143771", "143772", "9.0", "memory.free='143772'"),
                ("143771", "-1", "9.0", "memory.free='-1'"),
                ("143771", "1", "nine", "compute_cap='nine'"),
                (
                    "[N/A]",
                    "[N/A]",
                    "9.0",
                    "memory.total='[N/A]' for GPU 0 (NVIDIA H200), as for a part of a GPU (MIG)",
                ),
            ]
        ),
        ({"of": "NVIDIA\x07 H200, 143771, 143150, 9.0"}, "shows name="),
        ({"of": f"{'H' * 90}, 143771, 143150, 9.0"}, "shows name="),
    ],
)
def test_what_the_driver_says_is_quoted_where_it_is_no_list_of_gpus(tmp_path, monkeypatch, arguments, says):
    monkeypatch.setenv("PATH", driver(tmp_path, **arguments))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError) as error:
        this_machine.here()
    assert says in str(error.value)


def test_where_the_driver_fails_a_gpu_recipe_keeps_its_system_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path, gpus=0, more="NVIDIA-SMI has failed", code=9))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    request, _, [said] = this_machine.load(Request("justrl_deepseek"))
    assert request == Request("justrl_deepseek") and "NVIDIA-SMI has failed" in said
    assert this_machine.load(Request("justrl_tiny"))[::2] == (Request("justrl_tiny"), [])


def test_a_broken_gpu_is_left_out_by_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path, 1, RTX4090, more="Unable to determine the device handle", code=15))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert this_machine.here().count == 1


def test_a_driver_that_hangs_is_one_plain_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path))
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "LIMIT", 0.5)
    with pytest.raises(UserError, match="did not answer in 0 s: run it by itself") as error:
        gpus.find()
    assert "--query-gpu" not in str(error.value)


def test_hidden_gpus_are_named_with_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(UserError, match="no GPU here, CUDA_VISIBLE_DEVICES hides all"):
        this_machine.here()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="nvidia-smi is not on PATH"):
        this_machine.here()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (lambda folder: driver(folder, 1, RTX4090, more="1, GPU-x, NVIDIA T400, 4096, 4000, 7.5"), "several kinds"),
        (lambda folder: driver(folder, 1, "NVIDIA GB10, [N/A], [N/A], 12.1"), "memory.total='[N/A]'"),
    ],
)
def test_gpus_that_cannot_be_described_are_one_line(tmp_path, path, says):
    result = verl("run", "justrl_deepseek", "--system", "gpu", "--dry-run", cwd=tmp_path, PATH=path(tmp_path / "bin"))
    assert result.returncode == 2 and says in result.stderr and result.stderr.count("\n") == 1


def test_a_kind_is_told_by_its_name():
    h100 = Gpus("NVIDIA H100 80GB HBM3", 8, 79.6, 79.0, (9, 0))
    assert h100.are("H100-80GB", 80.0) and not h100.are("H200", 79.6)
    assert Gpus("NVIDIA GeForce RTX 4090", 1, 24.0, 23.5, (8, 9)).are("RTX4090", 24.0)


def test_a_kind_of_which_there_are_two_sizes_is_told_by_its_memory():
    assert not Gpus("NVIDIA A800-SXM4-40GB", 8, 40.0, 39.5, (8, 0)).are("A800-80GB", 79.3)
    assert not gpus.is_kind("NVIDIA A800-SXM4-40GB", "A800-80GB") and gpus.is_kind(
        "NVIDIA A800 80GB PCIe", "A800-80GB"
    )


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        ("NVIDIA GH200 480GB", "H200"),
        ("NVIDIA L40S", "L40"),
        ("NVIDIA GeForce RTX 4090D", "RTX4090"),
        ("GA100", "A100"),
    ],
)
def test_a_kind_is_whole_words(shown, kind):
    assert not gpus.is_kind(shown, kind)


def dry_run(folder: Path, *arguments: str, **env: str) -> tuple[dict, str]:
    result = verl("run", *arguments, "--dry-run", cwd=folder, **env)
    assert result.returncode == 0, result.stderr
    return yaml.safe_load(result.stdout), result.stderr


def test_a_run_gets_the_system_of_the_machine_where_its_recipes_own_does_not_fit(tmp_path):
    """It is printed as the file that it amounts to, and is no deviation."""
    config, said = dry_run(tmp_path, "justrl_deepseek", PATH=driver(tmp_path / "bin", 1, RTX4090))
    assert config["machine"] == {"system": "gpu", "name": "NVIDIA GeForce RTX 4090", "memory_gib": 24.0}
    assert config["actor_rollout_ref"]["actor"]["fsdp_config"]["offload_policy"] is True
    assert "a800x32 is 32 x A800-80GB, and here are 1 x NVIDIA GeForce RTX 4090" in said
    assert "deviation" not in said
    kept = tmp_path / "kept.yaml"
    kept.write_text(said[said.index("# @package") :])
    again, _ = dry_run(tmp_path, "justrl_deepseek", "--system", str(kept))
    written = verl("cp", "gpu", "copied.yaml", cwd=tmp_path, PATH=driver(tmp_path / "bin", 1, RTX4090))
    assert written.returncode == 0 and (tmp_path / "copied.yaml").read_text() == kept.read_text()
    for values in (config, again):
        values["trainer"].pop("default_local_dir")  # named after the time
    assert again == config


@pytest.mark.parametrize(
    ("recipe", "system", "address", "of"),
    [
        ("justrl_smollm2", None, None, "NVIDIA H200, 143771, 143150, 9.0"),  # its own fits
        ("justrl_tiny", None, None, RTX4090),  # trains on the CPU
        ("justrl_deepseek", None, "1.2.3.4:6379", RTX4090),  # the GPUs are a cluster's
        ("justrl_deepseek", "h100x8", None, RTX4090),  # asked for
    ],
)
def test_a_recipe_keeps_its_own_system(tmp_path, monkeypatch, recipe, system, address, of):
    monkeypatch.setenv("PATH", driver(tmp_path, 1, of))
    request = Request(recipe, system)
    assert this_machine.load(request, address)[::2] == (request, [])


@pytest.mark.parametrize(
    ("of", "says"),
    [("Tesla T4, 15360, 15000, 7.5", "compute capability 7.5"), ("NVIDIA GB10, [N/A], [N/A], 12.1", "memory.total=")],
)
def test_gpus_that_cannot_be_used_are_no_error_where_they_were_not_asked_for(tmp_path, monkeypatch, of, says):
    monkeypatch.setenv("PATH", driver(tmp_path, 1, of))
    request, _, said = this_machine.load(Request("justrl_deepseek"))
    assert request == Request("justrl_deepseek") and len(said) == 1 and "is kept" in said[0] and says in said[0]


def test_a_mistake_is_said_once_on_a_machine_with_gpus(tmp_path):
    path = driver(tmp_path / "bin", 1, RTX4090)
    result = verl("run", "justrl_deepseek", "data.train_batch_sizes=4", "--dry-run", cwd=tmp_path, PATH=path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1


def test_what_the_user_sets_is_counted(tmp_path):
    """On one of 8 GPUs an update takes more than on all of them."""
    path = driver(tmp_path / "bin", 8, "NVIDIA L40S, 46068, 45600, 8.9")
    one, _ = dry_run(tmp_path, "justrl_deepseek", "trainer.n_gpus_per_node=1", PATH=path)
    eight, _ = dry_run(tmp_path, "justrl_deepseek", PATH=path)
    offloaded = [c["actor_rollout_ref"]["actor"]["fsdp_config"]["offload_policy"] for c in (one, eight)]
    assert (one["trainer"]["n_gpus_per_node"], eight["trainer"]["n_gpus_per_node"]) == (1, 8)
    assert max(memory.peaks(SHAPE, one, 45 * memory.GIB)) < 45 * memory.GIB and offloaded[1] is False
    too_many = verl("run", "justrl_deepseek", "--system", "gpu", "trainer.n_gpus_per_node=9", cwd=tmp_path, PATH=path)
    assert too_many.returncode == 2 and "here are 8 x NVIDIA L40S" in too_many.stderr


def test_without_a_gpu_the_system_gpu_is_an_error(tmp_path):
    for command in (["run", "justrl_deepseek", "--system", "gpu"], ["cp", "gpu", "mine.yaml"], ["cat", "gpu"]):
        result = verl(*command, cwd=tmp_path, PATH=str(tmp_path))
        assert result.returncode == 2 and "nvidia-smi is not on PATH" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_unknown_size_is_an_error(tmp_path):
    model = "actor_rollout_ref.model.path=nobody/none"
    path = driver(tmp_path / "bin", 1, RTX4090)
    result = verl("run", "justrl_deepseek", model, "--system", "gpu", "--dry-run", cwd=tmp_path, PATH=path)
    assert result.returncode == 2 and "hf download nobody/none config.json" in result.stderr
