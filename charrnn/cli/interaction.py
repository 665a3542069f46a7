"""`charrnn sample --interactive`: an editor in which the model suggests how the text goes on.

The editor is on stderr, so that stdout, which gets the finished text, can be a file or a pipe. This module
is the only importer of prompt_toolkit, and loads it when it is needed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from charrnn.cli import wording
from charrnn.cli.process import Output, install, leave_on_signal, say_at_once
from charrnn.config import END, TextConfig
from charrnn.errors import CharrnnError, ConfigError

if TYPE_CHECKING:
    from charrnn import api
    from charrnn.checkpoint.model_file import Checkpoint

# Resets the terminal after the editor: colours off, cursor shown, bracketed paste off, screen cleared below.
FORGET_THE_EDITOR = "\x1b[0m\x1b[?25h\x1b[?2004l\x1b[J\r\n"
KEYS = "Tab: a word  →: a character  Esc: end"
KEYS_OF_RECORDS = "Tab: a word  →: a character  Ctrl-N: next text  Esc: end"


def write_by_hand(
    checkpoint: Checkpoint | api.Blend,
    prompt: str,
    on_unknown: str,
    precision: Any,
    *,
    adaptive: bool = False,
) -> None:
    """Edit a text or, with a model of records, one after another, until Esc or Ctrl-D.

    If `adaptive`, what is offered follows the complete lines of a text of prose, and complete records.

    Raises:
        ConfigError: the model writes bytes.
        CharrnnError: stdin or stderr is not a terminal.
        VocabularyError: the prompt holds a character that the model has never seen.
        KeyboardInterrupt: Ctrl-C.
    """
    if checkpoint.text.bytes:
        raise ConfigError("--interactive is given, and the model writes bytes", "use a model of characters")
    _require_terminal()
    from charrnn import api

    if on_unknown == "error":
        checkpoint.vocabulary.encode(prompt)
    output, config = Output(), checkpoint.text
    editor = _Editor(api.offers(checkpoint, precision, adaptive=adaptive), config)
    with _terminal_restored():
        ended = False
        while not ended:
            text, ended = editor.edit(prompt)
            prompt = ""
            if text:
                if config.records:
                    editor.offers.accept(text, ended=True)
                line_end = "" if text.endswith("\n") else "\n"
                output.write(text + (config.separator or line_end))
                output.flush()
            ended = ended or not config.records


def _require_terminal() -> None:
    """
    Raises:
        CharrnnError: stdin or stderr is not a terminal, or the terminal cannot move its cursor.
    """
    for name, stream in (("stdin", sys.stdin), ("stderr", sys.stderr)):
        if stream is None or not stream.isatty():
            raise CharrnnError(
                f"--interactive needs a terminal, and {name} is none", "leave it out, or redirect only stdout"
            )
    if os.environ.get("TERM") == "dumb":
        raise CharrnnError("--interactive needs a terminal that moves its cursor", "TERM says it is dumb")


class _Editor:
    def __init__(self, offers: api.Offers, config: TextConfig) -> None:
        self.offers = offers
        self._config = config
        self._ended = False
        self._last: tuple[str, api.Offer] | None = None
        self._session = self._make_session()

    def edit(self, text: str) -> tuple[str, bool]:
        """The edited text, and whether the user has ended the session."""
        self._ended = False
        return self._session.prompt(default=text, handle_sigint=True), self._ended

    def _make_session(self) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.layout.processors import AfterInput
        from prompt_toolkit.output import create_output
        from prompt_toolkit.styles import Style

        session: Any = PromptSession(
            output=create_output(stdout=sys.stderr),
            multiline=not self._config.lines,
            key_bindings=self._keys(),
            input_processors=[AfterInput(self._offered)],
            bottom_toolbar=self._toolbar,
            style=Style.from_dict(
                {"offer": "ansibrightblack", "bottom-toolbar": "noreverse ansibrightblack"}
            ),
            enable_suspend=True,
            erase_when_done=True,  # the text itself goes to stdout
        )
        session.app.ttimeoutlen = 0.05  # seconds after which Esc cannot be the start of an arrow key's code
        return session

    def _offer(self) -> api.Offer:
        text = self._session.default_buffer.document.text_before_cursor
        if self._last is None or self._last[0] != text:
            if not self._config.records and text.endswith("\n"):
                self.offers.accept(text)
            self._last = text, self.offers.after(text)
        return self._last[1]

    def _at_end(self) -> bool:
        return bool(self._session.default_buffer.document.is_cursor_at_the_end)

    def _offered(self) -> Any:
        """The suggested continuation, in grey after the text."""
        if not self._at_end() or self._session.app.is_done:
            return []
        return [("class:offer", self._offer().continuation.rstrip("\n").replace(END, "∎"))]

    def _toolbar(self) -> Any:
        choices = "  ".join(f"{_shown(c)} {p:.2f}" for c, p in self._offer().next)
        unknown = self.offers.unknown(self._session.default_buffer.text)
        if unknown:
            choices += f"   (never seen: {wording.visible(unknown)})"
        return [("", f"{choices}\n{KEYS if self._config.split is None else KEYS_OF_RECORDS}")]

    def _keys(self) -> Any:
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()
        at_end = Condition(self._at_end)

        def take(event: Any, text: str) -> None:
            if text and text == self._config.end:
                event.app.current_buffer.validate_and_handle()
            else:
                event.app.current_buffer.insert_text(text)

        @keys.add("tab", filter=at_end)
        def take_word(event: Any) -> None:
            take(event, self._offer().word)

        @keys.add("tab", filter=~at_end)
        def go_to_end(event: Any) -> None:
            event.app.current_buffer.cursor_position = len(event.app.current_buffer.text)

        @keys.add("right", filter=at_end)
        def take_character(event: Any) -> None:
            take(event, self._offer().continuation[:1])

        @keys.add("c-n", filter=Condition(lambda: self._config.split is not None))
        def go_to_next_text(event: Any) -> None:
            event.app.current_buffer.validate_and_handle()

        @keys.add("escape", eager=True)
        @keys.add("c-d")
        def end(event: Any) -> None:
            self._ended = True
            event.app.exit(result=event.app.current_buffer.text)

        return keys


def _shown(character: str) -> str:
    return {" ": "␣", "\n": "↵", END: "∎"}.get(character) or wording.visible(character)


@contextmanager
def _terminal_restored() -> Iterator[None]:
    """Restore the terminal's settings at the end, also if a signal ends the process."""
    try:
        import termios
    except ImportError:  # Windows, where the editor restores the terminal itself
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def restore() -> None:
        with suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(descriptor, termios.TCSANOW, before)  # without waiting for pending output

    def leave(number: int, frame: FrameType | None) -> None:
        restore()
        say_at_once(FORGET_THE_EDITOR)
        leave_on_signal(number)

    previous = install(leave)
    try:
        yield
    finally:
        restore()
        for number, handler in previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
