"""Folds a LoRA adapter into its base weights: `python -m justrl_recipe.evaluation.lora FOLDER`.

veRL 0.9.1's merger writes the base weights to FOLDER and the adapter to FOLDER/lora_adapter
(verl/model_merger/base_model_merger.py). vLLM would load the base weights alone. A process of its own, so that its
memory is free again before vLLM starts.
"""

import json
import shutil
import sys
from pathlib import Path

ADAPTER = "lora_adapter"


def fold(folder: Path) -> None:
    """Replace the weights in `folder` by W + (alpha / r) B A, and remove the adapter.

    Raises:
        ValueError: the adapter's scale is not known, or weights of it have no place in the model.
    """
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    adapter = folder / ADAPTER
    if not json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"]:
        raise ValueError("the checkpoint has no lora_train_meta.json, so the adapter's alpha is not known")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trained = PeftModel.from_pretrained(model, adapter)
    places = trained.state_dict().keys()
    names = [name.replace(".weight", ".default.weight") for name in load_file(adapter / "adapter_model.safetensors")]
    if missing := [name for name in names if name not in places]:
        raise ValueError(f"the adapter has weights that the model has no place for: {missing[0]}")
    trained.merge_and_unload(safe_merge=True).to(torch.bfloat16).save_pretrained(folder)
    shutil.rmtree(adapter)


if __name__ == "__main__":
    fold(Path(sys.argv[1]))
