"""Training, for all tasks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.api.models import Paths, paths_of
from charrnn.checkpoint import model_file as files
from charrnn.config import TASKS, TextConfig
from charrnn.errors import ConfigError, quoted
from charrnn.events import Event

if TYPE_CHECKING:
    from charrnn.ranks.ranks import Ranks
    from charrnn.tasks.files import Files


def train(
    corpus: Paths,
    *,
    out: str | Path | None = None,
    text: TextConfig = TextConfig(),  # noqa: B008 (frozen)
    val: Paths = (),
    resume: bool = False,
    force: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    **settings: Any,
) -> Generator[Event, None, None]:
    """Train on a corpus and yield events. The file `out` always holds the best model so far.

    `settings` are fields of ModelConfig (except vocab_size) and TrainConfig; those absent or None are chosen
    to suit the corpus. `val` is a separate validation text; without it, a part of the corpus is held out.
    `stop` is called after each step; when it returns a reason, the run is saved and ends. `resume` continues
    the interrupted run that wrote `out`. Further settings are

    - `init_from`: a model whose weights the run starts from, its vocabulary extended by the corpus's, and
      whose counts are merged with those of the corpus where that helps;
    - `from_scratch`: never start from the base model of English, which is done where it helps;
    - `threads`: the number of threads; None: as many as there are CPUs;
    - `ranks`: the processes that share the work, of which this is the leader; see charrnn.ranks;
    - `keep_models`: the number of models evaluated last to keep as well, in a folder beside `out`;
    - `task`: what to learn other than the next character, one of charrnn.config.TASKS;
    - `previews`: whether to yield a sample of the network's text every ten seconds.

    Raises:
        ConfigError: a setting is out of range or contradicts another; `out` is a file of the corpus.
        CheckpointError: a model file cannot be read, or another would be overwritten.
        SaveError: the model file cannot be written at the beginning or at the end; in between, the event
            Unsaved reports it.
        TrainingError: the loss is no longer a number; another process is training into the same file.
    """
    began = time.monotonic()  # before the imports, which take a while
    from charrnn.ranks.ranks import ALONE
    from charrnn.training.request import Request, Target
    from charrnn.training.run_setup import set_up

    path = None if out is None else Path(out)
    target = Target(path, resume, force, settings.pop("keep_models", 0))
    own = {
        name: settings.pop(name)
        for name in ("init_from", "from_scratch", "threads", "ranks")
        if name in settings
    }
    files = _assignment(corpus, val, own.get("ranks", ALONE), settings)
    request = Request(files, text, target, **own, settings=settings)
    with contextlib.ExitStack() as held:
        run, started = yield from set_up(request, stop=stop, held=held, began=began)
        yield started
        yield from run.events()


def _assignment(corpus: Paths, val: Paths, ranks: Ranks, settings: dict[str, Any]) -> Files:
    """The files and the task; those of the settings that are for it are taken out."""
    task, previews = settings.pop("task", None), settings.pop("previews", False)
    if task is None:
        from charrnn.tasks.next_character import TextFiles

        return TextFiles(paths_of(corpus), paths_of(val), previews, ranks)
    if task not in TASKS:
        raise ConfigError(f"task is {quoted(task)}", f"give one of {', '.join(TASKS)}")
    from charrnn.tasks import reading

    return reading.assignment(task)(paths_of(corpus), paths_of(val))


def training_files(
    corpus: Paths,
    out: str | Path | None = None,
    init_from: str | Path | None = None,
    val: Paths = (),
) -> list[tuple[str, Path | int]]:
    """The files that `train` reads and writes: a description of each, with its path or stdin's descriptor.

    A caller that writes further files can check that they are none of these.
    """
    from charrnn.tasks.files import Files
    from charrnn.training.request import model_path

    reading = Files(paths_of(corpus), paths_of(val))
    model = model_path(reading, None if out is None else Path(out))
    written: list[tuple[str, Path | int]] = [
        ("the model file", model),
        ("the file that --resume needs", files.resume_path(model)),
    ]
    initial = [] if init_from is None else [("the model to start from", Path(init_from))]
    return [*written, *initial, *reading.files()]
