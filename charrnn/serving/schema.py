"""What the server says of itself, as OpenAPI: made from what `protocol` takes."""

from __future__ import annotations

from typing import Any

import charrnn
from charrnn.config import SampleConfig
from charrnn.inference.filters import table
from charrnn.serving.protocol import (
    LONGEST_STOP,
    MOST_BANS,
    MOST_BEST,
    MOST_CHARACTERS,
    MOST_STOPS,
    MOST_TEXTS,
)

_TEXT = {"type": "string"}
_SWITCH = {"type": "boolean", "nullable": True}


def openapi() -> dict[str, Any]:
    """The whole description."""
    completion = {
        "summary": "Go on with a text",
        "requestBody": {"required": True, "content": _json(_ref("CompletionRequest"))},
        "responses": {
            "200": {
                "description": "The texts; with `stream`, events that hold their parts",
                "content": _json(_ref("Completion")) | {"text/event-stream": {}},
            },
            **_errors("400", "403", "404", "408", "413", "415", "503"),
        },
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "charrnn", "version": charrnn.__version__},
        "paths": {
            "/v1/completions": {"post": completion},
            "/v1/models": {"get": _get("The models", _ref("Models"))},
            "/v1/models/{name}": {
                "get": _get("A model", _ref("Model"), "404"),
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": _TEXT}],
            },
            "/health": {"get": _get("Whether it is there", _ref("Health"))},
        },
        "components": {"schemas": _schemas()},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(*codes: str) -> dict[str, Any]:
    return {code: {"description": "It is refused", "content": _json(_ref("Error"))} for code in codes}


def _get(summary: str, schema: dict[str, Any], *codes: str) -> dict[str, Any]:
    found = {"200": {"description": summary, "content": _json(schema)}}
    return {"summary": summary, "responses": found | _errors("400", "403", *codes)}


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _whole(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "nullable": True}


def _several(most: int, **more: Any) -> dict[str, Any]:
    """A text, or a list of them."""
    return {
        "oneOf": [_TEXT | more, {"type": "array", "items": _TEXT | more, "maxItems": most}],
        "nullable": True,
    }


def _request() -> dict[str, Any]:
    filters: dict[str, Any] = {
        line.name: {
            "type": "integer" if isinstance(line.default, int) else "number",
            "minimum": line.limits[0],
            "maximum": line.limits[1],
            "default": line.default,
            "nullable": True,
            "description": line.help,
        }
        for line in table(SampleConfig)
    }
    text = _TEXT | {"nullable": True}
    return _object(
        model=text,
        prompt=_several(MOST_TEXTS),
        max_tokens=_whole(0, MOST_CHARACTERS),
        n=_whole(1, MOST_TEXTS),
        best_of=_whole(1, MOST_TEXTS),
        stop=_several(MOST_STOPS, maxLength=LONGEST_STOP),
        seed=_whole(0, 2**63 - 1),
        echo=_SWITCH,
        logprobs=_whole(0, MOST_BEST),
        suffix=text,
        stream=_SWITCH,
        stream_options={"type": "object", "nullable": True},
        match=text,
        ban=_several(MOST_BANS, maxLength=LONGEST_STOP),
        only=text,
        label={"oneOf": [_TEXT, {"type": "object", "additionalProperties": _TEXT}], "nullable": True},
        strength={"type": "number", "minimum": 0, "maximum": 100, "nullable": True},
        on_unknown={"type": "string", "enum": ["error", "skip"], "nullable": True},
        **filters,
    )


def _schemas() -> dict[str, Any]:
    number = {"type": "integer"}
    logprobs = _object(
        ["tokens", "token_logprobs", "top_logprobs", "text_offset"],
        tokens={"type": "array", "items": _TEXT},
        token_logprobs={"type": "array", "items": {"type": "number", "nullable": True}},
        top_logprobs={"type": "array", "items": {"type": "object", "nullable": True}},
        text_offset={"type": "array", "items": number},
    )
    choice = _object(
        ["text", "index", "logprobs", "finish_reason"],
        text=_TEXT,
        index=number,
        logprobs=logprobs | {"nullable": True},
        finish_reason={"type": "string", "enum": ["stop", "length"], "nullable": True},
    )
    model = {"id": _TEXT, "object": _TEXT, "created": number, "owned_by": _TEXT}
    usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), number)
    why = {"type": "string", "nullable": True}
    return {
        "CompletionRequest": _request(),
        "Completion": _object(
            ["id", "object", "created", "model", "choices", "usage"],
            id=_TEXT,
            object=_TEXT,
            created=number,
            model=_TEXT,
            seed=number | {"nullable": True},
            choices={"type": "array", "items": choice},
            usage=_object(list(usage), **usage),
        ),
        "Model": _object(list(model), **model),
        "Models": _object(["object", "data"], object=_TEXT, data={"type": "array", "items": _ref("Model")}),
        "Health": _object(
            ["status", "texts", "compiled"], status=_TEXT, texts=number, compiled={"type": "boolean"}
        ),
        "Error": _object(
            ["error"],
            error=_object(
                ["message", "type", "param", "code"], message=_TEXT, type=_TEXT, param=why, code=why
            ),
        ),
    }
