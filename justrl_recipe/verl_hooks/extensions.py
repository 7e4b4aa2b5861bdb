"""What veRL's workers import, by the recipe's `actor_rollout_ref.model.external_lib`: what is to be found by name.

veRL 0.9.1 does so in every process that reads the model's config (verl/workers/config/model.py).
"""

from justrl_recipe.verl_hooks import agent_loop, packed_attention

__all__ = ["agent_loop", "packed_attention"]
