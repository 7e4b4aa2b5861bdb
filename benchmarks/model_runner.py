"""Whether vLLM's model runners sample from the model's own distribution, on a GPU.

    python benchmarks/model_runner.py FOLDER 1      # VLLM_USE_V2_MODEL_RUNNER; 0 for the V1 runner

Makes a Qwen2 of 12 M parameters with random weights in FOLDER, with a vocabulary of 512, and compares vLLM with
transformers, both in bfloat16:

- `first_token`: SAMPLES first tokens at temperature 1 beside the engine's own probabilities of all tokens, as
  Pearson's chi-square with its p-value, and the divergence of these probabilities from transformers' (`kl`, in nats:
  bfloat16 rounds differently in the two, which so many samples would show); `second_token`: the same for the second
  token behind the most frequent first one;
- `greedy`: the share of greedy tokens that are transformers' own, rescored on vLLM's sequence; where they differ, the
  largest gap between the two tokens' log-probs (`tie`): bfloat16 cannot tell such tokens apart;
- `log_probs`: the largest and the mean difference between vLLM's log-probs of sampled tokens and transformers';
- `synced`: the mean difference after each of SYNCS times that the engine sleeps and wakes and takes other weights, as
  veRL has it do in a step (level 2, the weights before the cache), the least and the largest of these, and the GPU's
  memory in use after the first and after the last.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

SAMPLES, PROMPT, VOCABULARY = 60_000, list(range(100, 132)), 512
SEQUENCES, LENGTH = 64, 128
SYNCS = 50


def make_model(folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1_024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        initializer_range=0.06,
        max_position_embeddings=1_024,
        bos_token_id=1,
        eos_token_id=2,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def chi_square(counts: Counter, probabilities) -> dict[str, float]:
    """Pearson's statistic over the tokens that are expected 5 times and more; the others are one class."""
    total = sum(counts.values())
    expected = [total * float(probability) for probability in probabilities]
    common = [token for token, value in enumerate(expected) if value >= 5]
    pairs = [(counts[token], expected[token]) for token in common]
    pairs.append((total - sum(seen for seen, _ in pairs), total - sum(value for _, value in pairs)))
    statistic = sum((seen - value) ** 2 / value for seen, value in pairs if value > 0)
    return {"n": total, "classes": len(pairs), "chi2": statistic, "p": _tail(len(pairs) - 1, statistic)}


def _tail(degrees: int, statistic: float) -> float:
    """The probability of a larger statistic."""
    import torch

    return float(torch.special.gammaincc(torch.tensor(degrees / 2.0), torch.tensor(statistic / 2.0)))


def main(folder: Path, runner: str) -> None:
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = runner
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # so that this process can load weights
    import torch
    from transformers import AutoModelForCausalLM
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    if not folder.exists():
        make_model(folder)
    engine = LLM(
        str(folder),
        skip_tokenizer_init=True,
        gpu_memory_utilization=0.1,
        max_num_seqs=512,
        enable_sleep_mode=True,
        max_logprobs=VOCABULARY,
        logprobs_mode="processed_logprobs",
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).cuda()

    def log_probs(tokens: list[int]):
        with torch.no_grad():
            return model(torch.tensor([tokens], device="cuda")).logits[0].float().log_softmax(-1)

    def compare(counts: Counter, prompt: list[int]) -> dict[str, float]:
        """Sampled tokens with the engine's probabilities, and these with transformers'."""
        every = SamplingParams(temperature=1.0, max_tokens=1, logprobs=VOCABULARY, detokenize=False)
        output = engine.generate([TokensPrompt(prompt_token_ids=prompt)], every, use_tqdm=False)[0].outputs[0]
        ours = torch.tensor([output.logprobs[0][token].logprob for token in range(VOCABULARY)]).double()
        theirs = log_probs(prompt)[-1].cpu().double()
        return {**chi_square(counts, ours.exp()), "kl": float((ours.exp() * (ours - theirs)).sum())}

    sampled = SamplingParams(n=1, temperature=1.0, max_tokens=2, ignore_eos=True, detokenize=False)
    pairs = Counter(
        tuple(output.outputs[0].token_ids)
        for output in engine.generate([TokensPrompt(prompt_token_ids=PROMPT)] * SAMPLES, sampled, use_tqdm=False)
    )
    first = Counter()
    for (token, _), count in pairs.items():
        first[token] += count
    common = first.most_common(1)[0][0]
    second = Counter({after: count for (token, after), count in pairs.items() if token == common})

    prompts = [TokensPrompt(prompt_token_ids=[*PROMPT, number]) for number in range(SEQUENCES)]
    greedy = SamplingParams(temperature=0.0, max_tokens=LENGTH, ignore_eos=True, detokenize=False)
    same, tie = 0, 0.0
    for prompt, output in zip(prompts, engine.generate(prompts, greedy, use_tqdm=False), strict=True):
        tokens = list(output.outputs[0].token_ids)
        scores = log_probs([*prompt["prompt_token_ids"], *tokens])[-LENGTH - 1 : -1]
        gaps = scores.max(-1).values - scores[range(LENGTH), tokens]
        same += int((gaps == 0).sum())
        tie = max(tie, float(gaps.max()))
    scored = SamplingParams(temperature=1.0, max_tokens=LENGTH, ignore_eos=True, detokenize=False, logprobs=0)

    def difference(count: int):
        """Of the log-probs of `count` responses' tokens by vLLM and by transformers."""
        found = []
        for prompt, output in zip(
            prompts[:count], engine.generate(prompts[:count], scored, use_tqdm=False), strict=True
        ):
            tokens = list(output.outputs[0].token_ids)
            ours = [entry[token].logprob for token, entry in zip(tokens, output.outputs[0].logprobs, strict=True)]
            scores = log_probs([*prompt["prompt_token_ids"], *tokens])[-LENGTH - 1 : -1]
            found.append((scores[range(LENGTH), tokens].cpu() - torch.tensor(ours)).abs())
        return torch.cat(found)

    off = difference(SEQUENCES)
    found = {
        "runner": f"V{int(runner) + 1}",
        "first_token": compare(first, PROMPT),
        "second_token": compare(second, [*PROMPT, common]),
        "greedy": {"same": same / (SEQUENCES * LENGTH), "tie": tie},
        "log_probs": {"max": float(off.max()), "mean": float(off.mean())},
    }
    synced, used = [], []
    for _ in range(SYNCS):
        engine.sleep(level=2)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.01)
        engine.wake_up(tags=["weights"])
        weights = [(name, weight.clone()) for name, weight in model.state_dict().items()]
        engine.llm_engine.model_executor.driver_worker.worker.model_runner.model.load_weights(iter(weights))
        engine.wake_up(tags=["kv_cache"])
        synced.append(float(difference(4).mean()))
        free, total = torch.cuda.mem_get_info()
        used.append(round((total - free) / 2**30, 2))
    found["synced"] = {"times": SYNCS, "mean": [min(synced), max(synced)], "used_gib": [used[0], used[-1]]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
