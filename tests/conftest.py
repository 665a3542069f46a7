"""For all tests."""

from hypothesis import settings
from support.environment import scrub

# The first call of a kernel compiles it, which takes seconds where nothing is cached. The campaigns try more.
settings.register_profile("charrnn", deadline=None, max_examples=50)
settings.load_profile("charrnn")


def pytest_sessionstart() -> None:
    """Before a test is imported, and with it Numba, which reads its variables then."""
    scrub()
