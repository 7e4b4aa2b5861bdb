"""One vLLM engine in a process of its own: `python -m justrl_recipe.evaluation.engine DESCRIPTOR PARENT`.

Over the connection it receives a Job, and sends a Generated per request, the number of tokens so far (twice a second
at most), and at the end None; or instead a Refused. A process of its own, so that an engine's memory is free again
when it is done, and each GPU has one.
"""

import os
import sys
import time
from collections import Counter, defaultdict
from multiprocessing.connection import Connection
from typing import Any

from justrl_recipe.data.columns import first_line
from justrl_recipe.evaluation import untrusted
from justrl_recipe.evaluation.job import Generated, Job, Refused
from justrl_recipe.processes import end_with_parent

REPORT_EVERY = 0.5  # seconds
BATCHED_TOKENS = 8_192  # prompt tokens of one step on a CPU


class NotPossible(Exception):
    """The job asks for what the model cannot do; its text is for the user."""


def prompt_ids(job: Job) -> tuple[list[list[int]], int]:
    """Each prompt in the model's chat template, as token ids, and the context that the longest needs.

    Raises:
        NotPossible: no tokenizer, no chat template or a broken one, code of the model's own that is not trusted, or
            more tokens than the model's context holds.
    """
    from jinja2 import TemplateError
    from transformers import AutoConfig, AutoTokenizer

    try:
        context = AutoConfig.from_pretrained(job.model, trust_remote_code=job.trust).max_position_embeddings
        tokenizer = AutoTokenizer.from_pretrained(job.model, trust_remote_code=job.trust)
    except (OSError, ValueError, AttributeError) as error:
        if untrusted.CUSTOM_CODE in str(error):
            raise NotPossible(f"{job.model} brings {untrusted.OWN_CODE}: {untrusted.FIX}") from error
        raise NotPossible(f"cannot read the model {job.model}: {first_line(error)}") from error
    if job.template.custom:
        tokenizer.chat_template = job.template.custom
    if not tokenizer.chat_template:
        raise NotPossible(f"{job.model}: the tokenizer has no chat template")
    ids = []
    for prompt in job.prompts:
        options = {**job.template.arguments, "add_generation_prompt": True, "return_dict": False}
        try:  # transformers renders it in jinja2's sandbox
            ids.append(tokenizer.apply_chat_template(job.template.messages(prompt.text), **options))
        except TemplateError as error:
            raise NotPossible(f"the chat template of {job.model} fails: {first_line(error)}") from error
        if len(ids[-1]) + job.sampling.max_tokens > context:
            raise NotPossible(_too_long(prompt.name, len(ids[-1]), job, context))
    return ids, max(map(len, ids)) + job.sampling.max_tokens


def _too_long(name: str, tokens: int, job: Job, context: int) -> str:
    limit = f"the context of {job.model} ({context:,} tokens)"
    if tokens >= context:
        return f"{name}: a prompt of {tokens:,} tokens exceeds {limit}"
    wanted = f"{job.sampling.max_tokens:,} new ones"
    return f"{name}: a prompt of {tokens:,} tokens and {wanted} exceed {limit}: at most {context - tokens:,} fit"


def start(job: Job, context: int) -> Any:
    """vLLM's offline engine for the job."""
    import torch
    from vllm import LLM

    on_cpu = not torch.cuda.is_available()
    return LLM(
        job.model,
        max_model_len=context,
        trust_remote_code=job.trust,
        tensor_parallel_size=job.resources.tensor_parallel,
        dtype="float32" if on_cpu else "auto",
        enforce_eager=on_cpu,
        max_num_seqs=job.resources.max_num_seqs,
        # vLLM draws a token for a part of a prompt too, and on a CPU cannot take that back from a seeded generator
        # (vllm/v1/worker/gpu_model_runner.py, _bookkeeping_sync, 0.24.0): there, prompts are not split.
        enable_chunked_prefill=not on_cpu,
        max_num_batched_tokens=max(context, BATCHED_TOKENS) if on_cpu else None,
        enable_prefix_caching=False,  # a cached prefix changes the shapes, and with them the last bits
        disable_log_stats=True,
    ).llm_engine


def generate(job: Job, connection: Connection) -> None:
    """Send what the engine makes of the job's requests, each as soon as it is finished."""
    prompts, context = prompt_ids(job)
    engine = start(job, context)
    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    for index, request in enumerate(job.requests):
        parameters = SamplingParams(
            temperature=job.sampling.temperature,
            top_p=job.sampling.top_p,
            max_tokens=job.sampling.max_tokens,
            seed=request.seed,  # of its own: what a response is does not depend on what else is asked for
            output_kind=RequestOutputKind.DELTA,  # else every step copies all tokens of every response
        )
        engine.add_request(str(index), TokensPrompt(prompt_token_ids=prompts[request.prompt]), parameters)
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
    """Do the job that comes over the connection, as long as the process `parent` lives."""
    end_with_parent(parent)
    connection = Connection(descriptor)
    job = connection.recv()
    try:
        generate(job, connection)
    except NotPossible as refusal:
        connection.send(Refused(str(refusal)))
    connection.send(None)
    connection.close()
    sys.stdout.flush()
    os._exit(0)  # everything is sent; vLLM and torch take seconds to come down


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
