"""The recipes, as a Hydra config source: Hydra finds `pkg://justrl_recipe.recipes` by this file."""
