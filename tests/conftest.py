"""For all tests."""

from hypothesis import settings

# The first call of a kernel compiles it, which takes seconds where nothing is cached.
settings.register_profile("charrnn", deadline=None)
settings.load_profile("charrnn")
