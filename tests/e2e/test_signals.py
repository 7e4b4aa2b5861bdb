"""What depends on a process: signals, pipes, and limits of memory, time and file size."""

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow
import pyarrow.parquet
import pytest
from command import VERL
from data_files import rows, write
from run_folders import MANIFEST, healthy, write_run

from justrl_recipe.run.folder import RunFolder

# verl report


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_watching_ends_when_the_process_of_the_run_dies(tmp_path):
    """No file of the run changes then."""
    trainer = subprocess.Popen(["sleep", "600"])
    alive = {"pid": trainer.pid, "pid_started": psutil.Process(trainer.pid).create_time(), "host": platform.node()}
    folder = write_run(tmp_path / "run", ended=None, status="running", **alive)
    watcher = start_watching(folder)
    try:
        until((folder / "report.html").exists)
        assert watcher.poll() is None
        trainer.kill()
        trainer.wait()
        assert watcher.wait(60) == 0
    finally:
        trainer.kill()
        watcher.kill()
        watcher.communicate()
    page = (folder / "report.html").read_text()
    assert "died" in page and "refresh" not in page


def start_watching(folder: Path) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen([VERL, "report", folder, "--watch"], stdout=pipe, stderr=pipe, text=True)


def test_watching_follows_a_run_to_its_end(tmp_path):
    folder = write_run(tmp_path / "run", ended=None, status="running")
    page, metrics = folder / "report.html", folder / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.unlink()
    watcher = start_watching(folder)
    try:
        assert watcher.stdout is not None and "no step yet" in watcher.stdout.readline()
        metrics.write_text(whole)
        until(page.exists)
        assert '<meta http-equiv="refresh"' in page.read_text()
        with metrics.open("a") as file:
            file.write('{"step": 99, "data": {"actor/entropy": 1.0}}\n')
        (folder / "manifest.json").write_text(json.dumps(MANIFEST))
        assert watcher.wait(60) == 0
    finally:
        watcher.kill()
        watcher.communicate()
    assert "refresh" not in page.read_text() and "99" in page.read_text()


def test_ctrl_c_ends_watching_and_leaves_nothing_half_written(tmp_path):
    folder = write_run(tmp_path / "run", ended=None, status="running")
    watcher = start_watching(folder)
    try:
        until((folder / "report.html").exists)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(30) == 130
    finally:
        watcher.kill()
        errors = watcher.communicate()[1]
    assert errors == "interrupted\n"
    assert not list(folder.rglob(".*"))


def test_a_run_of_the_paper_s_length_takes_at_most_10_s_and_5_mb(tmp_path):
    chance = np.random.default_rng(0)
    names = [*healthy(), *(f"other/metric_{number}" for number in range(86))]
    folder = write_run(tmp_path / "run", {name: np.abs(chance.standard_normal(4_380)) for name in names})
    before = os.times()
    subprocess.run([VERL, "report", folder], cwd=tmp_path, check=True, timeout=100)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    assert cpu < 10  # seconds of CPU, since other processes share the machine
    assert (folder / "report.html").stat().st_size < 5e6


def test_a_full_disk_keeps_the_old_file(tmp_path):
    source = write(
        tmp_path / "s.parquet", [{"problem": f"{os.urandom(200).hex()}?", "answer": "1"} for _ in range(2000)]
    )
    (tmp_path / "train.parquet").write_bytes(b"the old one")
    limit = (100_000, 100_000)  # bytes of a file, which ends a write as a full disk does
    done = subprocess.run(
        [VERL, "data", "train", "--source", str(source), "--out", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 2 and "cannot write train.parquet" in done.stderr, done.stderr
    assert (tmp_path / "train.parquet").read_bytes() == b"the old one"
    assert not list(tmp_path.glob(".*partial"))


def test_ctrl_c_is_130_and_leaves_nothing_half_written(tmp_path):
    row = json.dumps({"problem": "x" * 200, "answer": "1"})
    (tmp_path / "big.jsonl").write_text("".join(row.replace("x", f"{n} ", 1) + "\n" for n in range(400_000)))
    command = [VERL, "data", "train", "--source", "big.jsonl"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("data/.*partial")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert not (tmp_path / "data").exists()


def bomb_of_messages(file: Path) -> None:
    """One row with a list of 6,000 messages of 1 MB, which a dictionary keeps in 2 kB."""
    many, big = 6000, "x" * (1 << 20)
    content = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * many, pyarrow.int32()), pyarrow.array([big]))
    role = pyarrow.array(["user"] * many).dictionary_encode()
    structs = pyarrow.StructArray.from_arrays([content, role], ["content", "role"])
    prompt = pyarrow.ListArray.from_arrays(pyarrow.array([0, many], pyarrow.int32()), structs)
    write(file, rows(1), prompt=prompt)


def bomb_of_rows(file: Path) -> None:
    """6,000 rows, each with the same prompt of 1 MB and another answer."""
    many, big = 6000, "x" * (1 << 20)
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * many, pyarrow.int32()), pyarrow.array([big]))
    table = pyarrow.table({"problem": text, "answer": [str(i) for i in range(many)]})
    pyarrow.parquet.write_table(table, file)


def bomb_of_nothing(file: Path) -> None:
    """One row with a list of 20 million nulls."""
    many = 20_000_000
    structs = pyarrow.nulls(many, pyarrow.struct({"content": pyarrow.string(), "role": pyarrow.string()}))
    prompt = pyarrow.ListArray.from_arrays(pyarrow.array([0, many], pyarrow.int32()), structs)
    write(file, rows(1), prompt=prompt)


def bomb_of_one_text(file: Path) -> None:
    """A text of 300 MB in a page."""
    table = pyarrow.table({"problem": ["x" * (300 << 20)], "answer": ["1"]})
    pyarrow.parquet.write_table(table, file, compression="zstd", use_dictionary=False)


@pytest.mark.parametrize(
    ("make", "code"), [(bomb_of_messages, 2), (bomb_of_rows, 0), (bomb_of_nothing, 2), (bomb_of_one_text, 2)]
)
def test_a_small_file_that_unpacks_to_gigabytes(tmp_path, make, code):
    make(tmp_path / "f.parquet")
    assert (tmp_path / "f.parquet").stat().st_size < 2_000_000
    program = """
import re, sys, time
from justrl_recipe.data import training
from justrl_recipe.errors import UserError
from pathlib import Path
try:
    training.prepare(Path("f.parquet"), Path("o.parquet"), {}, lambda rows: None)
    code = 0
except UserError as error:
    print(error, file=sys.stderr)
    code = 2
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1], time.process_time())
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == code and len(done.stderr.splitlines()) == (code == 2), done.stderr[-500:]
    memory, seconds = done.stdout.split()
    assert int(memory) < 500_000 and float(seconds) < 10


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path):
    """`verl run ... | head`: the lines have nowhere to go, and the training process goes on to its end."""
    folder = RunFolder(tmp_path)
    folder.log.touch()
    config = {"trainer": {"total_training_steps": 5, "nnodes": 1, "n_gpus_per_node": 1}}
    entry = json.dumps({"step": 1, "data": {"critic/score/mean": -0.25}}) + "\n"
    write = f"f = open({str(folder.metrics)!r}, 'a'); f.write({entry!r}); f.close()"
    train = f"import time\nfor _ in range(5): {write}; time.sleep(0.3)\nopen({str(tmp_path / 'done')!r}, 'w').close()"
    watch = (
        "import subprocess, sys; from justrl_recipe.run.folder import RunFolder; from pathlib import Path\n"
        "from justrl_recipe.run.progress import Progress\n"
        f"process = subprocess.Popen([sys.executable, '-c', {train!r}])\n"
        f"list(Progress(RunFolder(Path({str(tmp_path)!r})), {config!r}, False).follow(process))\n"
        f"Path({str(tmp_path / 'code')!r}).write_text(str(process.returncode))"
    )
    watching = subprocess.Popen([sys.executable, "-c", watch], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watching.stdout.close()
    watching.wait(timeout=60)
    assert (tmp_path / "done").exists() and (tmp_path / "code").read_text() == "0"
