"""Settings of every test."""

from hypothesis import settings

# A busy machine is no failure, and a run that repeats is worth more than other examples each time.
settings.register_profile("geobody", deadline=None, derandomize=True)
settings.load_profile("geobody")
