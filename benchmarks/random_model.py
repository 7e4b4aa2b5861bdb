"""A model of the recipe's shape with random weights, to measure speed and memory where there is no download.

    python benchmarks/random_model.py TOKENIZER_FOLDER OUT

1.78 B parameters in bfloat16, 3.6 GB: Qwen2 as in justrl_recipe/planning/shapes.yaml. The output matrix is scaled so
that the entropy is 4 nats, nearer a trained model's; as transformers makes it, all tokens are about as likely,
and the probabilities of rollout and trainer are too small to differ. The tokenizer is copied; one that does not fill
the vocabulary of 151,936 makes rollout and trainer disagree, because veRL has vLLM sample no more tokens than the
tokenizer has.
"""

import shutil
import sys
from pathlib import Path

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from justrl_recipe.planning.model_shape import KNOWN

LOGITS_STD = 4.5
NAME = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


def main(tokenizer: Path, out: Path) -> None:
    shape = yaml.safe_load(KNOWN.read_text())[NAME]
    config = AutoConfig.for_model(**shape, bos_token_id=151646, eos_token_id=151643, pad_token_id=151643)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        torch.nn.init.normal_(model.lm_head.weight, std=LOGITS_STD / config.hidden_size**0.5)
    model.cpu().save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, out / name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
