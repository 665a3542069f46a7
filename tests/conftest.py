"""For all tests."""

import gc
import signal

import pytest
from hypothesis import settings
from support import forks
from support.environment import scrub
from support.warming import warm_up

# The first call of a kernel compiles it, which takes seconds where nothing is cached. The campaigns try more.
settings.register_profile("charrnn", deadline=None, max_examples=30)
settings.load_profile("charrnn")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before a test is imported, and with it Numba, which reads its variables then."""
    scrub()
    # A shell lets its jobs in the background ignore Ctrl-C, and so would all that the tests start.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    warm_up(session.config)
    forks.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from support.marks import mark

    for item in items:
        if isinstance(item, pytest.Function):
            mark(item)


def pytest_collection_finish() -> None:
    """Let no later garbage collection look through all that was imported and collected."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _as_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.marks import hold_to_marks

    hold_to_marks(request.node, monkeypatch)
