"""Models of other architectures in the actor's engine: right, or refused, and `verl validate` tells which before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import verl
from tiny_architectures import ATTENTION, FUSED, KINDS, MODEL, PADDED, SETTINGS

pytestmark = pytest.mark.xdist_group("engine")

SCRIPT = Path(__file__).parents[1] / "tiny_architectures.py"
ROUNDING = 1e-4  # of a log-prob in float32; the errors of a wrong attention are above 0.1


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def found(models) -> dict[tuple[str, tuple[str, ...]], dict]:
    """What the engine made of each setting."""
    environment = {**os.environ, "MASTER_PORT": "29547", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(SETTINGS), done.stderr[-2000:]
    return {(line["name"], tuple(line["overrides"])): line for line in lines}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        *((name, ()) for name in ("qwen3", "llama3", "smollm2", "qwen3_moe")),
        ("gemma3", (f"{ATTENTION}=sdpa", PADDED)),
        ("gemma2", (f"{ATTENTION}=eager", PADDED)),
        *((name, FUSED) for name in ("qwen3", "llama3", "smollm2")),
        ("gemma3", (f"{ATTENTION}=sdpa", PADDED, *FUSED)),
    ],
)
def test_an_architecture_has_the_log_probs_of_transformers_and_a_gradient(models, found, tmp_path, name, overrides):
    result = found[name, overrides]
    assert "error" not in result and result["off"] < ROUNDING and result["grad_norm"] > 0
    assert errors(models / name, overrides, tmp_path) == []


@pytest.mark.parametrize(
    ("name", "overrides", "key", "fails"),
    [
        ("gemma3", (), ATTENTION, "no dropout, sliding window"),
        ("gemma2", (f"{ATTENTION}=sdpa", PADDED), ATTENTION, None),  # wrong log-probs, and no error
    ],
)
def test_what_the_engine_does_not_take_is_refused_before_it_is_trained(
    models, found, tmp_path, name, overrides, key, fails
):
    result = found[name, overrides]
    assert fails in result["error"] if fails else result["off"] > 0.1
    assert errors(models / name, overrides, tmp_path) == [key]


def errors(model: Path, overrides: tuple[str, ...], folder: Path) -> list[str]:
    """The keys that `verl validate` has an error of, with justrl_tiny in an empty folder."""
    assert model.name in KINDS
    done = verl("validate", "justrl_tiny", f"{MODEL}.path={model}", *overrides, "--json", cwd=folder)
    return [problem["key"] for problem in json.loads(done.stdout)["problems"]]
