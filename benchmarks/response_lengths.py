"""Response lengths as in the paper's figure at step 1,000: 4,900 tokens on average, some cut off at the limit."""

import numpy as np

LIMIT = 15_360  # tokens; the recipe's


def draw(generator: np.random.Generator, prompts: int, responses: int, limit: int = LIMIT) -> np.ndarray:
    """Tokens of each response, [prompts, responses]; those of one prompt resemble each other.

    Args:
        limit: for a recipe with shorter responses, whose lengths are in proportion.
    """
    typical = np.exp(generator.normal(np.log(3_900), 0.55, (prompts, 1)))
    lengths = typical * generator.lognormal(0, 0.35, (prompts, responses))
    return np.maximum(np.minimum(lengths, LIMIT) * limit / LIMIT, 1).astype(int)
