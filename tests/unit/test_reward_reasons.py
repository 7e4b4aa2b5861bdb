"""Why a verifier decided so: the fourth key of the rewards, a text from the set that docs/rewards.md lists."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.reward_fns import robust_verifier, rule_based

EXACT = [
    (None, "2", "no text"),
    ("it is 2", "2", "no box"),
    ("\\boxed{2", "2", "box not closed"),
    ("\\boxed{2}" + "." * 200, "2", "box too early"),
    ("\\boxed{ }", "2", "empty box"),
    ("\\boxed{2}", "", "no ground truth"),
    ("\\boxed{2}", None, "no ground truth"),
    ("\\boxed{2}", "2", "exact match"),
    ("\\boxed{3}", "2", "other answer"),
]
ROBUST = [
    (None, "2", "no text"),
    ("it is 2", "2", "no box"),
    ("\\boxed{2", "2", "box not closed"),
    ("\\boxed{ }", "2", "empty box"),
    ("\\boxed{$$}", "2", "empty box"),
    ("\\boxed{2}", "$$", "no ground truth"),
    ("\\boxed{2}" + "." * 200, "2", "exact match"),
    ("\\boxed{\\frac12}", "\\frac{1}{2}", "spelling"),
    ("\\boxed{East}", "east", "words"),
    ("\\boxed{A}", "(A) 12", "choice"),
    ("\\boxed{0.5}", "1/2", "number"),
    ("\\boxed{x+1}", "1+x", "mathematics"),
    ("\\boxed{not 2}", "2", "denial"),
    ("\\boxed{west}", "east", "other words"),
    ("\\boxed{3}", "2", "other number"),
    ("\\boxed{2 cm}", "2 kg", "other unit"),
    ("\\boxed{x+2}", "1+x", "not equal"),
    ("\\boxed{%s}" % ("1" * 2_000), "1", "too long"),
    ("\\boxed{9^9^9}", "x+1", "too costly"),
    ("\\boxed{\\binom{10000000}{5000000}}", "1", "timeout"),
]
RIGHT = {"exact match", "spelling", "words", "choice", "number", "mathematics"}
REASONS = {reason for _, _, reason in (*EXACT, *ROBUST)}


@pytest.mark.parametrize(("response", "gold", "reason"), EXACT)
def test_why_the_rule_decided(response, gold, reason):
    found = rule_based.compute_score("any", response, gold)
    assert found["reason"] == reason and found["acc"] is (reason in RIGHT)


@pytest.mark.parametrize(("response", "gold", "reason"), ROBUST)
def test_why_the_verifier_decided(response, gold, reason):
    found = robust_verifier.compute_score("any", response, gold)
    assert found["reason"] == reason and found["acc"] is (reason in RIGHT)


@given(st.text("\\boxed{} 12a=", max_size=40), st.sampled_from(["2", "", "a", "$$"]))
def test_there_is_always_a_reason_that_agrees_with_the_verdict(response, gold):
    for verifier in (rule_based, robust_verifier):
        found = verifier.compute_score("any", response, gold)
        assert found["reason"] in REASONS and found["acc"] is (found["reason"] in RIGHT)


def test_the_page_lists_every_reason_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    table = page.partition("## Why it decided so")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(.+?)` \|", table, re.M)) == REASONS
