"""Names that do not exist: what is offered for them, and that nothing else is."""

from __future__ import annotations

import pytest
from support.calls import call

from charrnn.cli.parsing import invoke
from charrnn.cli.process import UsageError
from charrnn.system.spelling import close_names

OPTIONS = [
    ("train", "--jason", "--json"),
    ("train", "--bam", ""),
    ("sample", "--bam", "--ban"),
    ("sample", "--jason", "--json"),
    ("compress", "--jason", ""),
    ("train", "--hiden-size", "--hidden-size"),
    ("train", "--hidden", "--hidden-size"),
    ("train", "--hidden_size", "--hidden-size"),
    ("train", "--epoch", "--epochs"),
    ("train", "--stpes", "--steps"),
    ("train", "--quite", "--quiet"),
    ("train", "--forse=1", "--force"),
    ("train", "--lr-rate", "--lr"),
    ("train", "--gpu", ""),
    ("train", "--device", ""),
    ("train", "--learning-rate", ""),
    ("train", "--xy", ""),
    ("train", "--no-nrom", "--no-norm"),
    ("sample", "--temperature", "--temp"),
    ("sample", "--TEMP", "--temp"),
    ("sample", "--promt", "--prompt"),
    ("sample", "--lenght", "--length"),
    ("sample", "--top", "--top-k or --top-p"),
    ("sample", "--tokens", ""),
    ("sample", "--max-new-tokens", ""),
    ("score", "--threshhold", "--threshold"),
    ("info", "--jsno", "--json"),
]
COMMANDS = [
    ("trian", "train"),
    ("Train", "train"),
    ("samples", "sample"),
    ("evaluate", "eval"),
    ("lnfo", "info"),
    ("enum", "enumerate"),
    ("clasify", "classify"),
    ("decompres", "decompress"),
    ("generate", ""),
    ("frobnicate", ""),
    ("x", ""),
    ("", ""),
]
CHOICES = [
    (("train", "x", "--cell", "lsmt"), "cell is 'lsmt': give one of lstm, gru, rnn, esn, ntm"),
    (("train", "x", "--nonlinearity", "relo"), "nonlinearity is 'relo': give one of tanh, relu"),
    (("train", "x", "--precision", "bf16"), "precision is 'bf16': give one of auto, float32, bfloat16"),
    (("sample", "--on-unknown", "skp"), "on-unknown is 'skp': give error or skip"),
    (("score", "--color", "allways"), "color is 'allways': give one of auto, always, never"),
]


def offered(*args: str) -> str:
    """What is said after "did you mean"; empty where nothing is offered."""
    with pytest.raises(UsageError) as caught:
        invoke(list(args))
    assert caught.value.message.startswith("there is no ")
    return caught.value.hint.removeprefix("did you mean ").removesuffix("?")


@pytest.mark.parametrize(("command", "typed", "expected"), OPTIONS)
def test_only_close_options_are_offered(command: str, typed: str, expected: str) -> None:
    assert offered(command, "x", typed) == expected


@pytest.mark.parametrize(("typed", "expected"), COMMANDS)
def test_only_close_commands_are_offered(typed: str, expected: str) -> None:
    assert offered(typed) == expected


@pytest.mark.parametrize(("args", "said"), CHOICES)
def test_a_choice_that_is_none_is_told_all_there_are(args: tuple[str, ...], said: str) -> None:
    assert call(*args).stderr.decode().splitlines()[0] == f"charrnn: error: {said}"


def test_where_nothing_is_close_the_list_is_named() -> None:
    for args, listed in (
        (("train", "x", "--gpu"), "charrnn train --help"),
        (("frobnicate",), "charrnn --help"),
    ):
        error, hint = call(*args).stderr.decode().splitlines()
        assert error == f"charrnn: error: there is no {'option' if 'x' in args else 'command'} {args[-1]}"
        assert hint == f"try '{listed}'"


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("abcdef", True), ("abcdfe", True), ("abcde", True), ("abcdefg", True), ("xbcdef", True),
        ("badcef", True), ("abdefg", True), ("xyzdef", False), ("fedcba", False), ("ab", False),
    ],
)  # fmt: skip
def test_a_slip_is_two_letters_at_the_most(typed: str, near: bool) -> None:
    assert close_names(typed, ["abcdef"]) == (["abcdef"] if near else [])
