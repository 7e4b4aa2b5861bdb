"""Code in a model's folder that would run when it is loaded: pickles, and Python files named by `auto_map`.

transformers and vLLM run Python files only with `trust_remote_code`, and load a folder's own pickles
(pytorch_model.bin) with torch's `weights_only=True`. veRL's merger loads shards with `weights_only=False`.
"""

import os
import re
import warnings
import zipfile
from pathlib import Path

from justrl_recipe.errors import UserError

FIX = "--trust runs it, if you trust who made it"
OWN_CODE = "Python code of its own (auto_map)"
CUSTOM_CODE = "to allow custom code to be run"  # in transformers' refusal (transformers/dynamic_module_utils.py, 5.9)
# In torch's refusals (torch/serialization.py, 2.11), the second that of a TorchScript archive or a .tar.
NOT_TENSORS = re.compile(r"Weights only load failed|Cannot use ``weights_only=True``")
NAME = re.compile(r"GLOBAL ([\w.]+)")
NOT_WEIGHTS = ("training_args.bin", "optimizer.bin")  # which vLLM does not load


def environment() -> dict[str, str]:
    """The environment in which `torch.load` loads tensors alone, also where it is called with `weights_only=False`.

    DTensor and its parts are on torch's list of what is safe (torch/distributed/tensor/__init__.py).
    """
    kept = {name: value for name, value in os.environ.items() if name != "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}
    return {**kept, "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}


def refused(log: Path) -> str | None:
    """The code that a process in this environment has refused to run, by its log."""
    text = log.read_text(errors="replace")
    if NOT_TENSORS.search(text):
        return f"a pickle in actor/model_*.pt that holds more than tensors{_name(text)}"
    return OWN_CODE if CUSTOM_CODE in text else None


def require_tensors(folder: Path) -> None:
    """Check that the .bin files of a model without safetensors hold tensors alone; vLLM loads nothing else.

    Raises:
        UserError: one is broken, or would run code.
    """
    if any(folder.glob("*.safetensors")):
        return
    import torch

    for file in sorted(folder.glob("*.bin")):
        if file.name in NOT_WEIGHTS:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an error is one line
                torch.load(file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(file))
        except Exception as error:  # a broken file raises anything
            if NOT_TENSORS.search(str(error)):
                why = f"is a pickle that holds more than tensors{_name(str(error))}, which vLLM does not load"
                raise UserError(f"{file} {why}: give the model as safetensors") from error
            raise UserError(f"{file} is broken ({type(error).__name__}): copy the folder again") from error


def _name(text: str) -> str:
    """The first function or class that torch refused, in brackets."""
    found = NAME.search(text)
    return f" ({found[1].rstrip('.')})" if found else ""
