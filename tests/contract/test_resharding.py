"""A checkpoint of one number of ranks, by veRL's own manager on FSDP over gloo, loaded by another number."""

import json
import subprocess
import sys
import textwrap

import pytest

CASES = {  # (ranks, parts of each tensor) before and after
    "more": ((2, 2), (3, 3)),
    "one": ((3, 3), (1, 1)),
    "from one": ((1, 1), (2, 2)),
    "from replicas": ((4, 2), (2, 2)),
    "to replicas": ((2, 2), (4, 2)),
}
PROGRAM = """
    import json, os, sys
    os.environ["VERL_PLATFORM"] = "cpu"
    import torch
    import torch.distributed as distributed
    import verl  # with the plugin, hence the CPU platform
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
    from verl.utils.fsdp_utils import get_fsdp_full_state_dict
    from justrl_recipe.verl_hooks import patches

    patches.load_shards_of_other_world_sizes()
    torch.set_num_threads(1)
    SHAPE = dict(hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2,
                 num_key_value_heads=1, vocab_size=37, tie_word_embeddings=False)
    ALL = ["model", "optimizer", "extra"]

    def wrapped(version, ranks, parts):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(**SHAPE))
        if parts == ranks:
            mesh, strategy = init_device_mesh("cpu", (ranks,), mesh_dim_names=["fsdp"]), ShardingStrategy.FULL_SHARD
        else:
            mesh = init_device_mesh("cpu", (ranks // parts, parts), mesh_dim_names=["ddp", "fsdp"])
            strategy = ShardingStrategy.HYBRID_SHARD
        if version == 1:
            wrap = lambda module: FullyShardedDataParallel(
                module, device_mesh=mesh, sharding_strategy=strategy, device_id=torch.device("cpu")
            )
        else:
            wrap = lambda module: fully_shard(module, mesh=mesh)
        for number, layer in enumerate(model.model.layers):
            model.model.layers[number] = wrap(layer)
        return wrap(model)

    def full(model):
        return get_fsdp_full_state_dict(model, offload_to_cpu=False, rank0_only=False)

    def train(version, rank, ranks, parts, folder, loads, result):
        store = f"file://{os.getcwd()}/{result}.store"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
        model = wrapped(version, ranks, parts)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        tokenizer = type("Tokenizer", (), {"save_pretrained": lambda self, folder: None})()
        contents = {"save_contents": ALL, "load_contents": ALL}
        manager = FSDPCheckpointManager(model, optimizer, schedule, tokenizer, contents)

        def step(seed):  # a gradient that does not depend on how a parameter is sharded
            for parameter in model.parameters():
                parameter.grad = torch.sin(seed * parameter.detach())
            optimizer.step()
            schedule.step()

        if loads:
            manager.load_checkpoint(folder)
        else:
            step(1)
            step(2)
            manager.save_checkpoint(folder)
        before = {name: weight.clone() for name, weight in full(model).items()}
        step(3)  # which shows the moments and the schedule
        after = full(model)
        if rank == 0:
            torch.save([before, after, schedule.get_last_lr()], result)
        distributed.barrier()

    def run(*arguments, ranks):
        children = []
        for rank in range(ranks):
            if not (child := os.fork()):
                train(arguments[0], rank, ranks, *arguments[1:])
                os._exit(0)
            children.append(child)
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)

    version = int(sys.argv[1])
    for name, ((ranks, parts), (others, of_others)) in json.loads(sys.argv[2]).items():
        os.mkdir(name)
        os.chdir(name)
        run(version, parts, "actor", False, "expected", ranks=ranks)
        run(version, of_others, "actor", True, "found", ranks=others)
        found = torch.load("found", weights_only=False)
        weights, next_weights, rate = torch.load("expected", weights_only=False)
        assert found[2] == rate
        for name, weight in weights.items():
            assert torch.equal(found[0][name], weight), name
            torch.testing.assert_close(found[1][name], next_weights[name], rtol=1e-6, atol=1e-8)
            assert not weight.any() or not torch.equal(weight, next_weights[name]), name
        os.chdir("..")
"""


@pytest.mark.parametrize("version", [1, 2])
def test_training_continues_alike_on_another_number_of_ranks(tmp_path, version):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(version), json.dumps(CASES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
