"""The verifier's parser subclasses a private class of latex2sympy2_extended, which math-verify parses with."""

from pathlib import Path

import yaml

from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.mathematics.units import without_units

ANSWERS = yaml.safe_load((Path(__file__).parents[1] / "answers.yaml").read_text(encoding="utf-8"))


def test_the_fast_parser_reads_what_the_full_one_reads():
    """The contract with latex2sympy2_extended 1.11.0 behind parsing.Parser, which subclasses a private class."""
    from justrl_recipe.reward_fns.mathematics.parsing import FullParser, Parser

    def tree(parser: type, text: str) -> str | None:
        try:
            made = parser(is_real=True).create_parser(text)
            return made.math().toStringTree(recog=made)
        except Exception:  # the grammar's own, of no special type
            return None

    golds = [without_units(spelled(row["gold"])) for rows in ANSWERS.values() for row in rows]
    trees = [(tree(Parser, gold), tree(FullParser, gold)) for gold in golds if not plain_number(gold)][::2]
    assert all(fast in (full, None) for fast, full in trees)
    assert sum(fast is not None for fast, _ in trees) > 0.7 * len(trees)
