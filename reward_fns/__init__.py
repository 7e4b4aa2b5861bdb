"""Reward functions: pure functions of a response and its ground truth, named by the recipes."""
