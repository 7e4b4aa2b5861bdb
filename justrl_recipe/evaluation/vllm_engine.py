"""One vLLM engine in a process of its own: `python -m justrl_recipe.evaluation.vllm_engine DESCRIPTOR PARENT`.

Over the connection it receives a Workload. It sends a Generated per request, the number of tokens so far (at most
twice a second) and finally None; or, as text, why the workload is impossible. It is a process of its own so that its
memory is free again when it is done, and each GPU can have one.
"""

import os
import sys
import time
from collections import Counter, defaultdict
from multiprocessing.connection import Connection
from typing import Any

from justrl_recipe.errors import first_line
from justrl_recipe.evaluation import untrusted
from justrl_recipe.evaluation.generation import Generated, Workload
from justrl_recipe.processes import end_with_parent
from justrl_recipe.quick_imports import quick_imports

REPORT_EVERY = 0.5  # seconds
BATCHED_TOKENS = 8_192  # prompt tokens of one step on a CPU


class NotPossible(Exception):
    """The model cannot do the workload; the text is for the user."""


def prompt_ids(workload: Workload) -> tuple[list[list[int]], int]:
    """Each prompt in the model's chat template, as token ids, and the context length that the longest needs.

    Raises:
        NotPossible: the tokenizer or its chat template is missing or broken, or needs code that is not trusted, or a
            prompt has more tokens than the model's context holds.
    """
    from jinja2 import TemplateError

    with quick_imports():
        from transformers import AutoConfig, AutoTokenizer

    model, new_tokens = workload.model, workload.sampling.max_tokens
    name, template = str(model.folder), model.template
    try:
        context = AutoConfig.from_pretrained(name, trust_remote_code=model.trust).max_position_embeddings
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=model.trust)
    except (OSError, ValueError, AttributeError) as error:
        if untrusted.CUSTOM_CODE in str(error):
            raise NotPossible(f"{name} brings {untrusted.OWN_CODE}: {untrusted.FIX}") from error
        raise NotPossible(f"cannot read the model {name}: {first_line(error)}") from error
    if template.custom:
        tokenizer.chat_template = template.custom
    if not tokenizer.chat_template:
        raise NotPossible(f"{name}: the tokenizer has no chat template")
    ids = []
    for prompt in workload.prompts:
        options = {**template.arguments, "add_generation_prompt": True, "return_dict": False}
        try:  # transformers renders it in jinja2's sandbox
            ids.append(tokenizer.apply_chat_template(template.messages(prompt.text), **options))
        except TemplateError as error:
            raise NotPossible(f"the chat template of {name} fails: {first_line(error)}") from error
        if len(ids[-1]) + new_tokens > context:
            wanted = f"{prompt.name}: a prompt of {len(ids[-1]):,} tokens and {new_tokens:,} new ones"
            fit = max(0, context - len(ids[-1]))
            raise NotPossible(f"{wanted} exceed the context of {name} ({context:,} tokens): at most {fit:,} fit")
    return ids, max(map(len, ids)) + new_tokens


def start(workload: Workload, context: int) -> Any:
    """vLLM's offline engine for the workload."""
    with quick_imports():
        import torch
        from vllm import LLM

    on_cpu = not torch.cuda.is_available()
    return LLM(
        str(workload.model.folder),
        max_model_len=context,
        trust_remote_code=workload.model.trust,
        tensor_parallel_size=workload.engine.tensor_parallel,
        dtype="float32" if on_cpu else "auto",
        enforce_eager=on_cpu,
        max_num_seqs=workload.engine.max_num_seqs,
        # vLLM draws a token for a part of a prompt too, and on a CPU cannot take that back from a seeded generator
        # (vllm/v1/worker/gpu_model_runner.py, _bookkeeping_sync, 0.24.0): there, prompts are not split.
        enable_chunked_prefill=not on_cpu,
        max_num_batched_tokens=max(context, BATCHED_TOKENS) if on_cpu else None,
        enable_prefix_caching=False,  # a cached prefix changes the shapes, and with them the last bits
        disable_log_stats=True,
    ).llm_engine


def generate(workload: Workload, connection: Connection) -> None:
    """Send each response as soon as it is finished."""
    prompts, context = prompt_ids(workload)
    engine = start(workload, context)
    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    for index, (prompt, seed) in enumerate(workload.requests):
        parameters = SamplingParams(
            temperature=workload.sampling.temperature,
            top_p=workload.sampling.top_p,
            max_tokens=workload.sampling.max_tokens,
            seed=seed,  # of its own: a response does not depend on what else is asked for
            output_kind=RequestOutputKind.DELTA,  # otherwise every step copies all tokens of every response
        )
        engine.add_request(str(index), TokensPrompt(prompt_token_ids=prompts[prompt]), parameters)
    texts: dict[str, list[str]] = defaultdict(list)
    tokens: Counter[str] = Counter()
    reported = 0.0
    while engine.has_unfinished_requests():
        for output in engine.step():
            name, new = output.request_id, output.outputs[0]
            texts[name].append(new.text)
            tokens[name] += len(new.token_ids)
            if output.finished:
                text = "".join(texts.pop(name))
                connection.send(Generated(int(name), text, tokens[name], new.finish_reason))
        if time.monotonic() - reported > REPORT_EVERY:
            reported = time.monotonic()
            connection.send(tokens.total())


def main(descriptor: int, parent: int) -> None:
    """Do the workload that comes over the connection, as long as the process `parent` lives."""
    end_with_parent(parent)
    connection = Connection(descriptor)
    workload = connection.recv()
    try:
        generate(workload, connection)
    except NotPossible as refusal:
        connection.send(str(refusal))
    connection.send(None)
    connection.close()
    sys.stdout.flush()
    os._exit(0)  # everything is sent; vLLM and torch take seconds to shut down


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
