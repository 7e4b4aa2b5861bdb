"""The steps whose responses come with vLLM's log-probs."""

from justrl_recipe.verl_hooks.log_probs import has_log_probs


def test_the_first_steps_of_each_attempt_and_every_tenth_have_them():
    assert [step for step in range(1, 51) if has_log_probs(step, 1, 10)] == [*range(1, 11), 20, 30, 40, 50]
    assert [step for step in range(24, 51) if has_log_probs(step, 24, 10)] == [*range(24, 34), 40, 50]
    assert all(has_log_probs(step, 1, 1) for step in range(1, 100))
