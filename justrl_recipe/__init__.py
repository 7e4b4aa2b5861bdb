"""JustRL as a veRL plug-in."""

from importlib.metadata import version

__version__ = version("justrl-recipe")
