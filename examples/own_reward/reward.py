"""A reward of your own: the last whole number of a response is the answer, with or without a box."""

import re

NUMBER = re.compile(r"-?\d+")


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """+1 when the last whole number of the response is the ground truth, else -1."""
    numbers = NUMBER.findall(solution_str)
    pred = numbers[-1] if numbers else None
    correct = pred == ground_truth
    return {"score": 1.0 if correct else -1.0, "acc": correct, "pred": pred}
