"""A prompt's length in the tokens of a model, as verl/utils/dataset/rl_dataset.py counts them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.data.columns import first_line
from justrl_recipe.errors import UserError

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


class NoTemplate(UserError):
    """A tokenizer that cannot make a prompt of messages."""


class Lengths:
    """Counts a prompt's tokens with the tokenizer of a model folder, or of a name on the hub.

    Args:
        template: in place of the tokenizer's own chat template.
        arguments: of the chat template, veRL's `data.apply_chat_template_kwargs`.

    Raises:
        UserError: there is no tokenizer that can be loaded without running code of its own.
        NoTemplate: it has no chat template.
    """

    def __init__(self, model: str, template: str | None = None, arguments: Mapping[str, Any] | None = None) -> None:
        if os.path.isdir(model) and not any((Path(model) / name).is_file() for name in FILES):
            raise UserError(f"folder {model} has no tokenizer (none of {', '.join(FILES)})")
        if os.path.isdir(model):
            files.require_regular(Path(model))
        from transformers import AutoTokenizer

        try:  # trust_remote_code: without a value transformers asks on the terminal
            self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        except Exception as error:  # the tokenizers library raises plain Exceptions at what it cannot read
            raise UserError(f"no tokenizer {model}: {first_line(error)[:150]}") from error
        if template is not None:
            self.tokenizer.chat_template = template
        try:
            self.tokenizer.get_chat_template()
        except ValueError as error:  # none, or several and none of them the default
            fix = "set actor_rollout_ref.model.custom_chat_template, or take an instruction-tuned model"
            raise NoTemplate(f"the tokenizer {model} has no chat template: {fix}") from error
        skipped = ("tokenize", "return_dict", "return_tensors")
        self.arguments = {name: value for name, value in (arguments or {}).items() if name not in skipped}

    def of(self, messages: list[dict[str, Any]] | None) -> int | None:
        """The number of tokens; None where the chat template refuses the prompt, which veRL counts as too long."""
        try:
            tokens = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False, **self.arguments
            )
        except Exception:  # a template is a program of the model's author, and veRL catches the same here
            return None
        return len(tokens)
