"""OpenAI's shapes: what a request may hold, and what is answered. No HTTP, and nothing that computes."""

from __future__ import annotations

import codecs
import json
import math
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from charrnn.config import SampleConfig, TextConfig, WeightPrecision
from charrnn.errors import CharrnnError, ConfigError, quoted
from charrnn.generation.together import Likelihood, Piece
from charrnn.inference.filters import Setting, table
from charrnn.text.files.normalization import as_trained, expression_as_trained
from charrnn.vocabulary import END, OnUnknown

MOST_CHARACTERS = 100_000  # of a text
MOST_IN_ALL = 1_000_000  # of all texts of a request, which may be held in memory
MOST_PROMPT = 200_000  # characters of all prompts
MOST_TEXTS = 128  # of a request
MOST_BEST = 5  # the most probable characters that are told in each place: OpenAI's limit
MOST_STOPS, LONGEST_STOP = 16, 1000
MOST_BANS = 1000
CLOSING = "<|endoftext|>"  # how OpenAI calls the end of a text

# What OpenAI has and charrnn has not, with the values that change nothing.
NOT_SERVED: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "messages": (),
    "exact": (False,),
    "unique": (False,),
    "novel": (False,),
}
# How fields are called that have another name on the command line.
_FIELDS = {"length": "max_tokens", "until": "stop", "temp": "temperature", "drop-until": "stop"}


Finish = Literal["stop", "length"]


class RefusedError(CharrnnError):
    """A request that cannot be answered, with OpenAI's name of what is wrong."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    prompts: tuple[str, ...]
    config: SampleConfig
    n: int = 1
    best_of: int = 1
    echo: bool = False
    logprobs: int | None = None
    suffix: str | None = None
    stream: bool = False
    include_usage: bool = False
    label: dict[str, str] | None = None
    strength: float | None = None
    on_unknown: OnUnknown = "error"


@dataclass(frozen=True)
class Served:
    """What requests are read and answered with: the model's name, its text, the columns of its labels."""

    name: str
    text: TextConfig
    columns: tuple[str, ...] = ()
    precision: WeightPrecision = "float32"
    created: int = field(default_factory=lambda: int(time.time()))


def parse(body: bytes, served: Served, seed: int) -> Request:
    """The request in a body; `seed` is for one that has none. RefusedError: it says what is wrong."""
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RefusedError("the body is no JSON") from None
    if not isinstance(values, dict):
        raise RefusedError("the body is no JSON object")
    return _Fields({name: value for name, value in values.items() if value is not None}, served).request(seed)


def _no_number(name: str) -> Any:
    raise ValueError(name)


class _Fields:
    """The fields of a request, each of which is refused by name."""

    def __init__(self, values: dict[str, Any], served: Served) -> None:
        self._values, self._served = values, served

    def request(self, seed: int) -> Request:
        for name, harmless in NOT_SERVED.items():
            if name in self._values and self._values[name] not in harmless:
                raise RefusedError(f"{name} is not supported: leave it out", name, "unsupported_value")
        model = self._values.get("model", self._served.name)
        if model != self._served.name:
            hint = f"this server has {quoted(self._served.name)}"
            raise RefusedError(f"there is no model {quoted(model)}: {hint}", "model", "model_not_found", 404)
        n = self.number("n", 1, 1, MOST_TEXTS)
        best_of = self.number("best_of", n, 1, MOST_TEXTS)
        prompts, stream = self.prompts(), self.switch("stream")
        suffix = self.text("suffix")
        request = Request(
            prompts=prompts,
            config=self.config(seed),
            n=n,
            best_of=best_of,
            echo=self.switch("echo"),
            logprobs=self.optional_number("logprobs", 0, MOST_BEST),
            suffix=None if not suffix else self.converted(suffix),
            stream=stream,
            include_usage=self.include_usage(stream),
            label=self.label(),
            strength=self.strength(),
            on_unknown=self.choice("on_unknown", ("error", "skip")),
        )
        self.check(request)
        return request

    def check(self, request: Request) -> None:
        """What fields say of one another."""
        if request.best_of < request.n:
            raise RefusedError(f"best_of is {request.best_of}, and n is {request.n}: give more", "best_of")
        if request.best_of > request.n and request.stream:
            raise RefusedError("the best of several texts cannot be streamed: leave out stream", "best_of")
        texts = len(request.prompts) * request.best_of
        if texts > MOST_TEXTS:
            raise RefusedError(f"{texts} texts are asked for: ask for {MOST_TEXTS} at the most", "prompt")
        length = request.config.length or 0
        if texts * length > MOST_IN_ALL:
            most = f"ask for {MOST_IN_ALL:,} in all at the most"
            raise RefusedError(f"{texts} texts of {length:,} characters are too many: {most}", "max_tokens")
        if request.logprobs is not None and self._served.text.bytes:
            raise RefusedError("logprobs are told of characters, and the model writes bytes", "logprobs")
        if request.suffix is not None:
            for name in ("stop", "match", "ban", "only", "best_of", "logprobs"):
                if self._values.get(name):
                    raise RefusedError(f"{name} does not go together with suffix: leave out one", name)

    def config(self, seed: int) -> SampleConfig:
        stops = self.texts("stop", MOST_STOPS)
        only, match = self.text("only"), self.text("match")
        try:
            return SampleConfig(
                **{line.name: self.setting(line) for line in table(SampleConfig)},
                seed=self.number("seed", seed, 0, 2**63 - 1),
                length=self.optional_number("max_tokens", 0, MOST_CHARACTERS),
                until=stops,
                drop_until=bool(stops),
                match=None if match is None else self.expression(match),
                ban=self.texts("ban", MOST_BANS),
                only=None if only is None else self.converted(only),
                precision=self._served.precision,
            )
        except ConfigError as error:
            raise RefusedError(in_fields(str(error))) from None

    def converted(self, text: str) -> str:
        """A text in the model's characters, which may be bytes, and in their normal form."""
        if self._served.text.bytes:
            return text.encode("utf-8", "surrogatepass").decode("latin-1")
        return as_trained(text, self._served.text)

    def expression(self, expression: str) -> str:
        if self._served.text.bytes:
            return self.converted(expression)
        return expression_as_trained(expression, self._served.text)

    def refuse(self, name: str, value: object, wanted: str) -> RefusedError:
        return RefusedError(f"{name} is {quoted(value)}: give {wanted}", name, "invalid_value")

    def setting(self, line: Setting) -> Any:
        value, (low, high) = self._values.get(line.name, line.default), line.limits
        whole = isinstance(line.default, int)
        if not _is_number(value, whole) or not low <= value <= high:
            number = "a whole number" if whole else "a number"
            raise self.refuse(line.name, value, line.wanted or f"{number} from {low} to {high}")
        return type(line.default)(value)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        found = self.optional_number(name, low, high)
        return default if found is None else found

    def optional_number(self, name: str, low: int, high: int) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not _is_number(value, True) or not low <= value <= high:
            raise self.refuse(name, value, f"a whole number from {low} to {high}")
        return int(value)

    def switch(self, name: str) -> bool:
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise self.refuse(name, value, "true or false")
        return value

    def choice(self, name: str, choices: tuple[OnUnknown, ...]) -> OnUnknown:
        for choice in choices:
            if self._values.get(name, choices[0]) == choice:
                return choice
        raise self.refuse(name, self._values[name], " or ".join(choices))

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.refuse(name, value, "a text")

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        value = self._values.get(name, [])
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise self.refuse(name, value, "a text, or a list of texts")
        if len(found) > most or any(len(text) > LONGEST_STOP for text in found):
            raise RefusedError(
                f"{name} is too much: give at most {most} texts of {LONGEST_STOP:,} characters", name
            )
        return tuple(self.converted(text) for text in found if text)

    def prompts(self) -> tuple[str, ...]:
        value = self._values.get("prompt", "")
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
            raise RefusedError(
                f"prompt is {quoted(value)}: give a text, or a list of texts (tokens are characters here)",
                "prompt", "invalid_value",
            )  # fmt: skip
        if len(found) > MOST_TEXTS:
            raise RefusedError(f"prompt has {len(found):,} texts: give {MOST_TEXTS} at the most", "prompt")
        if sum(map(len, found)) > MOST_PROMPT:
            raise RefusedError(f"prompt is longer than {MOST_PROMPT:,} characters: give its end", "prompt")
        return tuple(map(self.converted, found))

    def include_usage(self, stream: bool) -> bool:
        options = self._values.get("stream_options", {})
        if not isinstance(options, dict):
            raise self.refuse("stream_options", options, "an object")
        if options and not stream:
            raise RefusedError("stream_options are given without stream: leave them out", "stream_options")
        return _Fields({"include_usage": options.get("include_usage") or False}, self._served).switch(
            "include_usage"
        )

    def strength(self) -> float | None:
        value = self._values.get("strength")
        if value is None:
            return None
        if not _is_number(value, False) or not 0 <= value <= 100:
            raise self.refuse("strength", value, "a number from 0 to 100")
        if "label" not in self._values:
            raise RefusedError("strength says how far label leads: give that, too, or neither", "strength")
        return float(value)

    def label(self) -> dict[str, str] | None:
        value = self._values.get("label")
        if value is None:
            return None
        if isinstance(value, str) and len(self._served.columns) <= 1:
            return dict.fromkeys(self._served.columns or ("",), value)
        if isinstance(value, dict) and value and all(isinstance(one, str) for one in value.values()):
            return dict(value)
        wanted = "a text" if len(self._served.columns) <= 1 else "an object such as {column: label}"
        raise self.refuse("label", value, wanted)


def _is_number(value: object, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not whole or isinstance(value, int) or value.is_integer()


def in_fields(message: str) -> str:
    """A message of the command line, with the fields of a request in place of options."""
    named = re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda m: _FIELDS.get(m[1], m[1].replace("-", "_")), message)
    return re.sub(r"^(length|until|temp)(?= is )", lambda m: _FIELDS[m[1]], named)


def error(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's object for an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Choice:
    """One text of an answer, as it is shown: in JSON's characters, without the end of its line.

    `offset` is where it begins in the text that is shown, for OpenAI's text_offset.
    """

    def __init__(self, index: int, text: TextConfig) -> None:
        self.index = index
        self.characters = 0  # written so far
        self._lines, self._offset = text.lines, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text.bytes else None

    def prompt(self, text: str, likelihoods: Sequence[Likelihood | None] | None) -> dict[str, Any]:
        """The prompt as the choice's beginning."""
        shown = text
        if self._decoder is not None:
            shown = text.encode("latin-1").decode("utf-8", "replace")
        return self._object(shown, text, likelihoods)

    def part(self, pieces: Sequence[Piece], finish: Finish | None, rated: bool) -> dict[str, Any]:
        """The choice's object for these pieces, the last ones if it is finished."""
        text = "".join(piece.text for piece in pieces)
        likelihoods = [one for piece in pieces for one in piece.likelihoods]
        if self._lines:  # the end of a line comes last, and is none of what is shown
            text = text.removesuffix("\n")
        self.characters += len(text)
        shown = text
        if self._decoder is not None:
            shown = self._decoder.decode(text.encode("latin-1"), final=finish is not None)
        return self._object(shown, text, likelihoods[: len(text)] if rated else None, finish)

    def whole(self, text: str) -> dict[str, Any]:
        """The choice's object for a text that comes at once."""
        return self.part([Piece(text)], "stop", False)

    def _object(
        self,
        shown: str,
        text: str,
        likelihoods: Sequence[Likelihood | None] | None,
        finish: Finish | None = None,
    ) -> dict[str, Any]:
        logprobs = None
        if likelihoods is not None:
            logprobs = _logprobs(text, likelihoods, self._offset)
        self._offset += len(shown)
        return {"text": shown, "index": self.index, "logprobs": logprobs, "finish_reason": finish}


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One choice's parts as one."""
    whole = dict(parts[-1])
    whole["text"] = "".join(part["text"] for part in parts)
    told = [part["logprobs"] for part in parts if part["logprobs"] is not None]
    if told:
        whole["logprobs"] = {name: [one for part in told for one in part[name]] for name in told[0]}
    return whole


def _logprobs(text: str, likelihoods: Sequence[Likelihood | None], offset: int) -> dict[str, Any]:
    return {
        "tokens": list(text),
        "token_logprobs": [None if one is None else _finite(one.log_probability) for one in likelihoods],
        "top_logprobs": [
            None if one is None else {_named(c): _finite(value) for c, value in one.best}
            for one in likelihoods
        ],
        "text_offset": list(range(offset, offset + len(text))),
    }


def _named(character: str) -> str:
    return CLOSING if character == END else character


def _finite(value: float) -> float:
    """What JSON can hold in place of -inf."""
    return value if math.isfinite(value) else -9999.0


def usage(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's count of tokens, which are characters."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def envelope(served: Served, seed: int | None) -> dict[str, Any]:
    """What all objects of one answer have in common. The seed gives the same texts again."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": served.name,
        "seed": seed,
    }


def model(served: Served) -> dict[str, Any]:
    """The object of a model."""
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "charrnn"}


def models(served: Served) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model(served)]}


def llm_config(name: str, address: str) -> str:
    """What extra-openai-models.yaml holds, with which Simon Willison's `llm` finds the server."""
    rows: Mapping[str, object] = {
        "model_id": name,
        "model_name": name,
        "api_base": f"{address}/v1",
        "completion": True,
    }
    # A string of JSON is one of YAML.
    lines = [f"{key}: {json.dumps(value)}" for key, value in rows.items()]
    return "- " + "\n  ".join(lines) + "\n"
