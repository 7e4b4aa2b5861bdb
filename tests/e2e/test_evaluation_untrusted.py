"""`verl eval` of what somebody else made: code in its files runs with `--trust` alone, and is refused in one line."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from command import VERL, verl
from safetensors.torch import load_file

from justrl_recipe import cli
from justrl_recipe.config import Request, load
from justrl_recipe.cpu import tiny_model
from justrl_recipe.data import rl_dataset, schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import models, vllm_engine
from justrl_recipe.evaluation.generation import Prompt, Sampling, Workload
from justrl_recipe.evaluation.models import Model, Template
from justrl_recipe.report import runs

BIN = "pytorch_model.bin"


class Planted:
    """Makes a file, by its own name, when it is unpickled."""

    def __init__(self, marker: Path, call=os.system):
        self.marker, self.call = marker, call

    def __reduce__(self):
        name = str(self.marker)
        return self.call, (f"touch {name}" if self.call is os.system else f"open({name!r}, 'w')",)


def zipped(content: object, file: Path) -> None:
    torch.save(content, file)


def old_format(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def bare(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


WRITERS = [zipped, old_format, bare]


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "code-has-run"


def refuses(capsys, monkeypatch, *arguments: object) -> str:
    """The one line with which `verl eval` ends with exit code 2."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # `main` sets it for good
    for name in ("stdout", "stderr"):  # and wraps these
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(sys, "argv", ["verl", "eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.startswith("error: ")
    return line


def write_model(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", *names):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("trust", [[], ["--trust"]])  # vLLM loads tensors alone, whatever it is told
@pytest.mark.parametrize("call", [os.system, eval])
@pytest.mark.parametrize("write", WRITERS)
def test_pickled_weights_that_hold_code_are_refused(tmp_path, marker, capsys, monkeypatch, write, call, trust):
    folder = write_model(tmp_path / "model")
    write({"a": torch.ones(2), "b": Planted(marker, call)}, folder / BIN)
    line = refuses(capsys, monkeypatch, folder, *trust)
    assert f"{folder / BIN} is a pickle that holds more than tensors" in line and "safetensors" in line
    assert not marker.exists()


def test_so_are_those_of_a_judge_and_of_one_shard_of_several(tmp_path, marker, capsys, monkeypatch):
    folder, names = write_model(tmp_path / "judge"), [f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)]
    zipped({"a": torch.ones(2)}, folder / names[0])
    zipped({"b": Planted(marker)}, folder / names[1])
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    line = refuses(capsys, monkeypatch, "--grade-only", "samples.jsonl", "--judge", folder)
    assert f"{names[1]} is a pickle that holds more than tensors" in line and not marker.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_broken_file_of_weights_is_one_line(tmp_path, capsys, monkeypatch, content):
    folder = write_model(tmp_path / "model")
    (folder / BIN).write_bytes(content)
    assert f"{folder / BIN} is broken" in refuses(capsys, monkeypatch, folder)


@pytest.mark.parametrize("write", [zipped, old_format])
def test_pickled_weights_of_tensors_alone_are_taken(tmp_path, write):
    folder = write_model(tmp_path / "model")
    write({"a": torch.ones(2).bfloat16(), "b": torch.nn.Parameter(torch.ones(3))}, folder / BIN)
    zipped({"args": Path()}, folder / "training_args.bin")  # of transformers' trainer; nothing loads it
    assert models.find(str(folder)).folder == folder


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("files", [[], ["adapter_config.json"]])
def test_an_adapter_s_pickle_is_not_opened(tmp_path, marker, files, trust):
    folder = write_model(tmp_path / "adapter", *files)
    zipped({"lora": Planted(marker)}, folder / "adapter_model.bin")
    with pytest.raises(UserError):
        models.find(str(folder), trust)
    assert not marker.exists()


# --- Python files and templates


@pytest.fixture(scope="module")
def parts() -> tuple:
    tokenizer = tiny_model.build_tokenizer(["user system 1 + 1 brief <>"])
    return tokenizer, tiny_model.build_model(load(Request("justrl_tiny")).values["tiny_model"], tokenizer)


@pytest.fixture
def model(tmp_path, parts) -> Path:
    tokenizer, made = parts
    tokenizer.save_pretrained(tmp_path / "model")
    made.config.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def workload(folder: Path, trust: bool = False, template: str | None = None) -> Workload:
    model = Model(folder, "m", Template(template), trust=trust)
    return Workload(model, [Prompt("x", "1 + 1")], [], Sampling(1.0, 1.0, 8))


CODE = {
    "config": ("config.json", {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}),
    "tokenizer": (
        "tokenizer_config.json",
        {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}},
    ),
}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("of", CODE)
def test_a_model_s_own_python_runs_with_trust_alone(tmp_path, model, marker, monkeypatch, of, trust):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    if of == "tokenizer":  # transformers ignores the code of a Qwen2's tokenizer
        change(model / "config.json", model_type="llama")
    file, values = CODE[of]
    change(model / file, **values)
    classes = (
        "from transformers import Qwen2Config, Qwen2Tokenizer\n"
        "class Config(Qwen2Config): model_type = 'mine'\n"
        "class Mine(Qwen2Tokenizer): pass"
    )
    (model / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n{classes}\n")
    if trust:
        vllm_engine.prompt_ids(workload(model, trust))
    else:
        with pytest.raises(vllm_engine.NotPossible, match=r"code of its own \(auto_map\): --trust"):
            vllm_engine.prompt_ids(workload(model))
    assert marker.exists() == trust


@pytest.mark.parametrize("trust", [False, True])
def test_python_files_come_from_the_hub_with_trust_alone(model, monkeypatch, trust):
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        (model / "model.safetensors").touch()
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert models.find("somebody/model", trust).trust == trust
    assert ("*.py" in asked) == trust and "*.bin" not in asked and "*.safetensors" in asked


ESCAPES = [
    "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append.__self__.__class__.__base__.__subclasses__()[0]('MARKER') }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('MARKER', 'w') }}",
    "{% set x = '{0.__class__}'.format(tools) %}{{ namespace.__init__.__globals__ }}",
]


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("custom", [False, True])
def test_a_chat_template_does_not_leave_its_sandbox(model, marker, custom, escape):
    template = escape.replace("MARKER", str(marker))
    if not custom:
        (model / "chat_template.jinja").write_text(template)
    with pytest.raises(vllm_engine.NotPossible, match="the chat template of"):
        vllm_engine.prompt_ids(workload(model, template=template if custom else None))
    assert not marker.exists()


# --- a run's YAML and Parquet

YAML_TAGS = ["!!python/object/apply:os.system ['touch MARKER']", "!!python/object/new:type {args: [a, [], {}]}"]


@pytest.mark.parametrize("tag", YAML_TAGS)
@pytest.mark.parametrize(
    "read",
    [
        models.steps_of,
        lambda run: runs.read_size(run / "config.yaml"),
        lambda run: load(Request(str(run / "config.yaml"))),
    ],
)
def test_yaml_makes_no_objects(tmp_path, marker, read, tag):
    (tmp_path / "config.yaml").write_text(f"trainer:\n  total_training_steps: {tag.replace('MARKER', str(marker))}\n")
    with pytest.raises(UserError):
        read(tmp_path)
    assert not marker.exists()


def test_parquet_makes_no_objects(tmp_path, marker):
    """pyarrow before 14.0.1 unpickled an extension type from a file's metadata."""
    kind = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Planted(marker)),
    }
    table = pyarrow.Table.from_pylist([schema.row("x", 0, "train", "1 + 1?", "2")])
    fields = [field.with_metadata(kind) for field in table.schema]
    pyarrow.parquet.write_table(table.cast(pyarrow.schema(fields)), tmp_path / "train.parquet")
    assert list(rl_dataset.read(tmp_path / "train.parquet", "prompt"))
    (tmp_path / "config.yaml").write_text(f"data: {{train_files: {tmp_path / 'train.parquet'}}}")
    models.template_of(tmp_path)
    assert not marker.exists()


# --- a veRL checkpoint, with veRL's own merger

SAVE_SHARDS = """
import sys
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig, AutoModelForCausalLM
rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/../meeting", rank=rank, world_size=ranks)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(f"{folder}/huggingface"))
if rank == 0:
    torch.save(model.state_dict(), f"{folder}/../whole")
fully_shard(model, mesh=init_device_mesh("cpu", (ranks,), mesh_dim_names=("fsdp",)))
torch.save(model.state_dict(), f"{folder}/model_world_size_{ranks}_rank_{rank}.pt")
"""


def write_checkpoint(step: Path, parts: tuple, ranks: int) -> Path:
    """A checkpoint as veRL saves it, but for the shards."""
    actor, (tokenizer, made) = step / "actor", parts
    made.config.architectures = ["Qwen2ForCausalLM"]
    for part in (made.config, tokenizer):
        part.save_pretrained(actor / "huggingface")
    (actor / "fsdp_config.json").write_text(json.dumps({"world_size": ranks}))
    return actor


def verl_eval(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return verl("eval", *arguments, cwd=folder)


@pytest.mark.parametrize("ranks", [1, 2])
def test_shards_of_fsdp_are_merged_and_nothing_else_of_a_checkpoint_is_opened(tmp_path, parts, marker, ranks):
    step = tmp_path / "run" / "checkpoints" / "global_step_3"
    actor = write_checkpoint(step, parts, ranks)
    command = [sys.executable, "-c", SAVE_SHARDS]
    saving = [subprocess.Popen([*command, str(rank), str(ranks), str(actor)]) for rank in range(ranks)]
    assert [process.wait(timeout=120) for process in saving] == [0] * ranks
    for rank in range(ranks):
        for name in ("optim", "extra_state"):
            zipped({"state": Planted(marker)}, actor / f"{name}_world_size_{ranks}_rank_{rank}.pt")
    zipped(Planted(marker), step / "data.pt")
    for file in ("adapter_model.bin", BIN, "training_args.bin"):
        bare(Planted(marker), actor / "huggingface" / file)
    if sys.version_info >= (3, 11):  # PYTHONSAFEPATH
        for module in ("torch", "transformers", "verl", "tqdm", "numpy"):
            (tmp_path / "run" / f"{module}.py").write_text(f"open({str(marker)!r}, 'w')")

    command = [VERL, "eval", ".", "--benchmark", "none.parquet"]
    done = subprocess.run(command, cwd=tmp_path / "run", capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and "none.parquet" in done.stderr  # merged by then
    whole, merged = torch.load(step / "whole"), load_file(step / "merged" / "model.safetensors")
    assert all(torch.equal(weight, whole[name].bfloat16()) for name, weight in merged.items())
    assert not marker.exists()


@pytest.mark.parametrize("write", [zipped, bare])
def test_a_shard_that_holds_code_is_refused_without_trust(tmp_path, parts, marker, write):
    actor = write_checkpoint(tmp_path / "run" / "checkpoints" / "global_step_3", parts, 1)
    write({"model.norm.weight": Planted(marker)}, actor / "model_world_size_1_rank_0.pt")
    done = verl_eval(tmp_path, "run", "--benchmark", "none.parquet")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and done.stderr.splitlines()[-1:] == errors and "--trust" in errors[0]
    assert "a pickle in actor/model_*.pt that holds more than tensors" in errors[0] and not marker.exists()
    assert not list(actor.parent.glob("*merged*"))

    done = verl_eval(tmp_path, "run", "--benchmark", "none.parquet", "--trust")
    assert done.returncode == 2 and "cannot merge" in done.stderr and marker.exists()


def test_a_checkpoint_whose_model_has_python_of_its_own_is_refused(tmp_path, parts, marker):
    actor = write_checkpoint(tmp_path / "run" / "checkpoints" / "global_step_3", parts, 1)
    torch.save(parts[1].state_dict(), actor / "model_world_size_1_rank_0.pt")
    change(actor / "huggingface" / "config.json", **CODE["config"][1])
    (actor / "huggingface" / "mine.py").write_text(f"open({str(marker)!r}, 'w')")
    done = verl_eval(tmp_path, "run", "--benchmark", "none.parquet")
    assert done.returncode == 2 and not marker.exists()
    assert "brings Python code of its own (auto_map): --trust" in done.stderr.splitlines()[-1]
