"""Settings for every test."""

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # a slow example is no failure
settings.load_profile("shared machine")
