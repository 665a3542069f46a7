"""`charrnn serve` as programs meet it: OpenAI's shapes, the texts of the command, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.clients import MISSING, Answer, ask, server
from support.toy_models import toy

from charrnn import api
from charrnn.config import SampleConfig, TextConfig
from charrnn.errors import CheckpointError, SearchError
from charrnn.labels import Column

pytestmark = pytest.mark.timeout(120)

PROSE = toy(2, "\n .ab", lines=False)
LINES = toy(1)


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    """A server of a model of prose."""
    with server(PROSE) as running:
        yield running


@pytest.fixture(scope="module")
def lines() -> Iterator[Any]:
    with server(LINES) as running:
        yield running


def alone(model: Any, prompt: str = "", **settings: Any) -> list[str]:
    return [
        "".join(text).removesuffix("\n" * model.text.lines) for text in api.sample(model, prompt, **settings)
    ]


def texts(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [choice["text"] for choice in answer.json["choices"]]


def streamed(answer: Answer) -> dict[int, str]:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    found: dict[int, str] = {}
    for event in answer.events:
        for choice in event["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return found


def refusal(answer: Answer, status: int = 400) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.json.keys() == {"error"}
    error: dict[str, Any] = answer.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


# --- texts -----------------------------------------------------------------------------------------

SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 40}, {"length": 40}),
    ({"max_tokens": 30, "n": 4}, {"length": 30, "count": 4}),
    ({"max_tokens": 30, "best_of": 4}, {"length": 30, "best_of": 4}),
    ({"max_tokens": 30, "temperature": 0}, {"length": 30, "temperature": 0}),
    ({"max_tokens": 30, "temperature": 1.3, "top_p": 0.9}, {"length": 30, "temperature": 1.3, "top_p": 0.9}),
    ({"max_tokens": 30, "top_k": 2, "min_p": 0.1}, {"length": 30, "top_k": 2, "min_p": 0.1}),
    ({"max_tokens": 60, "dry": 1.5, "dry_length": 3}, {"length": 60, "dry": 1.5, "dry_length": 3}),
    (
        {"max_tokens": 60, "stop": ["bb", "ba"]},
        {"length": 60, "until": ("bb", "ba"), "drop_until": True},
    ),
    ({"max_tokens": 60, "stop": "a."}, {"length": 60, "until": "a.", "drop_until": True}),
    ({"max_tokens": 60, "match": "[ab]{3}( [ab]{2})+"}, {"length": 60, "match": "[ab]{3}( [ab]{2})+"}),
    ({"max_tokens": 60, "ban": ["ab", "."]}, {"length": 60, "ban": ("ab", ".")}),
    ({"max_tokens": 60, "only": "a b"}, {"length": 60, "only": "a b"}),
    ({"max_tokens": 20, "prompt": "aab", "echo": True}, {"length": 20, "prompt": "aab", "echo": True}),
    ({}, {}),
]


@pytest.mark.parametrize(("asked", "settings"), SETTINGS, ids=lambda value: "-".join(value))
def test_the_same_seed_gives_the_text_of_the_command(app: Any, asked: Any, settings: Any) -> None:
    expected = alone(PROSE, seed=5, **settings)
    assert texts(ask(app, value={"seed": 5, **asked})) == expected
    if "best_of" not in asked:
        found = streamed(ask(app, value={"seed": 5, "stream": True, **asked}))
        assert [found[n] for n in range(len(expected))] == expected


def test_a_line_comes_without_its_end_and_says_that_it_has_ended(lines: Any) -> None:
    answer = ask(lines, value={"seed": 3, "n": 20, "max_tokens": 2})
    choices = answer.json["choices"]
    written = list(api.sample(LINES, count=20, seed=3, length=2))
    for choice, text in zip(choices, written, strict=True):
        assert choice["text"] == "".join(text).removesuffix("\n")
        assert choice["finish_reason"] == ("length" if text.cut else "stop")
    assert {choice["finish_reason"] for choice in choices} == {"length", "stop"}


def test_several_prompts_are_written_as_those_of_a_file_are(app: Any) -> None:
    asked = {"prompt": ["a", "", "ba"], "n": 2, "seed": 11, "max_tokens": 25}
    written = api.sample_each(PROSE, ["a", "", "ba"], count=2, seed=11, length=25)
    assert texts(ask(app, value=asked)) == ["".join(text) for text in written]


def test_the_best_of_several_are_the_least_surprising_ones(app: Any) -> None:
    rated = [("".join(t), t.loss) for t in api.sample(PROSE, count=6, seed=4, length=20, rated=True)]
    expected = [text for text, _ in sorted(rated, key=lambda one: one[1] or 0.0)[:3]]
    assert texts(ask(app, value={"seed": 4, "max_tokens": 20, "n": 3, "best_of": 6})) == expected


def test_without_a_seed_the_answer_tells_the_one_that_writes_it_again(app: Any) -> None:
    first, second = (ask(app, value={"max_tokens": 30}) for _ in range(2))
    assert first.json["seed"] != second.json["seed"]
    assert texts(first) == alone(PROSE, seed=first.json["seed"], length=30)


def test_a_label_is_given_as_on_the_command_line() -> None:
    columns = (Column("", ("x", "y"), (1, 1)),)
    model = toy(4, labels=(2,))
    model = replace(model, columns=columns, text=replace(model.text, label_by="column"))
    with server(model) as running:
        for label, strength in (("x", None), ("y", None), ("y", 1.0), ("x", 3.5)):
            asked = {"label": label, "seed": 1, "n": 5} | ({} if strength is None else {"strength": strength})
            given = api.given(model, label, 2.0 if strength is None else strength)
            assert texts(ask(running, value=asked)) == alone(given, seed=1, count=5)
        error = refusal(ask(running, value={"label": "z"}))
        assert "never seen the label 'z'" in error["message"]


def test_a_mixture_of_models_is_served_as_one() -> None:
    blended = api.blend([(toy(1), 2.0), (toy(5), 1.0)])
    with server(blended) as running:
        assert texts(ask(running, value={"seed": 1, "n": 3})) == alone(blended, seed=1, count=3)


def test_bytes_are_shown_as_the_text_that_they_are() -> None:
    characters = "".join(sorted({*"é日".encode().decode("latin-1"), "a"}))
    model = toy(3, characters, lines=False)
    model = replace(model, text=TextConfig(bytes=True))
    with server(model) as running:
        raw = "".join(next(api.sample(model, "日".encode().decode("latin-1"), seed=2, length=60, echo=True)))
        expected = raw.encode("latin-1").decode("utf-8", "replace")
        asked = {"prompt": "日", "seed": 2, "max_tokens": 60, "echo": True}
        assert texts(ask(running, value=asked)) == [expected]
        assert streamed(ask(running, value={**asked, "stream": True})) == {0: expected}
        assert refusal(ask(running, value={"logprobs": 1}))["param"] == "logprobs"


def test_prompt_and_suffix_are_filled_as_by_the_command(lines: Any) -> None:
    found = api.fill(LINES, "a*b", count=3, gap=4)
    answer = ask(lines, value={"prompt": "a", "suffix": "b", "max_tokens": 4, "n": 3})
    assert ["a" + text + "b" for text in texts(answer)] == [filling.text for filling in found]
    whole = streamed(ask(lines, value={"prompt": "a", "suffix": "b", "max_tokens": 4, "stream": True}))
    assert whole == {0: found[0].text[1:-1]}


def test_characters_of_a_pattern_are_only_characters_in_prompt_and_suffix() -> None:
    model = toy(6, "\n*?\\_a")
    with server(model) as running:
        answer = ask(running, value={"prompt": "*?_\\", "suffix": "\\*", "max_tokens": 2})
        best = api.fill(model, r"\*\?\_\\*\\\*", count=1, gap=2)[0]
        assert "*?_\\" + texts(answer)[0] + "\\*" == best.text


def test_a_search_ends_when_nobody_waits_for_it_any_more() -> None:
    pytest.importorskip("starlette", reason=MISSING)
    from charrnn.serving.filling import Reader, between

    reader = Reader(LINES, "float32", 1)
    assert between(reader, "a", "b", count=1, gap=2)
    reader.gone = True
    with pytest.raises(SearchError, match="takes too long"):
        between(reader, "a", "b", count=1, gap=2)


# --- shapes ----------------------------------------------------------------------------------------


def test_an_answer_has_the_shape_of_a_completion(app: Any) -> None:
    answer = ask(app, value={"model": "toy", "prompt": "ab", "max_tokens": 7, "user": "me", "future": [1]})
    body = answer.json
    assert answer.headers["content-type"] == "application/json"
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"]) == ("text_completion", "toy")
    assert abs(body["created"] - time.time()) < 100
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 7, "total_tokens": 9}
    (choice,) = body["choices"]
    assert choice.keys() == {"text", "index", "logprobs", "finish_reason"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")


def test_events_have_one_id_and_end_with_the_usage_that_was_asked_for(app: Any) -> None:
    asked = {"prompt": "ab", "n": 2, "max_tokens": 9, "stream": True}
    events = ask(app, value={**asked, "stream_options": {"include_usage": True}}).events
    assert len({event["id"] for event in events}) == 1
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 18, "total_tokens": 20}
    reasons = [c["finish_reason"] for event in events for c in event["choices"]]
    assert [reason for reason in reasons if reason] == ["length", "length"]
    assert all(len(event["choices"]) == 1 for event in events[:-1])
    assert all(event["choices"] for event in ask(app, value=asked).events)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_told_of_each_character_with_echo_of_the_prompt_too(app: Any, stream: bool) -> None:
    asked = {"prompt": "ab", "echo": True, "seed": 1, "max_tokens": 12, "logprobs": 2, "stream": stream}
    answer = ask(app, value=asked)
    if stream:
        choices = [event["choices"][0] for event in answer.events]
        told = [choice["logprobs"] for choice in choices]
        whole = {name: [one for part in told for one in part[name]] for name in told[0]}
        text = "".join(choice["text"] for choice in choices)
    else:
        (choice,) = answer.json["choices"]
        whole, text = choice["logprobs"], choice["text"]
    assert whole["tokens"] == list(text)
    assert whole["text_offset"] == list(range(len(text)))
    surprises = api.score(PROSE, text)
    assert whole["token_logprobs"] == pytest.approx([-s for s in surprises], abs=1e-4)
    for token, value, best in zip(text, whole["token_logprobs"], whole["top_logprobs"], strict=True):
        assert len(best) == 2
        assert best.get(token, value) == value
        assert value <= max(best.values())


def test_a_text_of_no_characters_scores_its_prompt(app: Any) -> None:
    (choice,) = ask(app, value={"prompt": "ab.", "echo": True, "max_tokens": 0, "logprobs": 0}).json[
        "choices"
    ]
    assert choice["text"] == "ab."
    assert len(choice["logprobs"]["token_logprobs"]) == 3


def test_models_health_and_description_are_there(app: Any) -> None:
    models = ask(app, "/v1/models", method="GET").json
    assert [one["id"] for one in models["data"]] == ["toy"]
    assert ask(app, "/v1/models/toy", method="GET").json == models["data"][0]
    assert refusal(ask(app, "/v1/models/other", method="GET"), 404)["code"] == "model_not_found"
    assert ask(app, "/health", method="GET").json["status"] == "ok"
    described = ask(app, "/openapi.json", method="GET").json
    assert set(described["paths"]) >= {"/v1/completions", "/v1/models", "/health"}


def test_another_page_may_stand_in_its_place_and_is_made_once() -> None:
    made: list[str] = []

    def page() -> str:
        made.append("<title>mine</title><script>1</script>")
        return made[0]

    with server(PROSE, page=page) as running:
        answers = [ask(running, "/", method="GET") for _ in range(2)]
    assert len(made) == 1
    digest = base64.b64encode(hashlib.sha256(b"1").digest()).decode()
    for answer in answers:
        assert b"mine" in answer.body
        assert f"script-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_a_model_that_no_page_holds_has_a_form() -> None:
    def page() -> str:
        raise CheckpointError("the model has a cell of its own")

    with server(PROSE, page=page) as running:
        answer = ask(running, "/", method="GET")
    assert b"v1/completions" in answer.body
    assert "connect-src 'self'" in answer.headers["content-security-policy"]


def test_a_page_that_brings_its_policy_along_keeps_it() -> None:
    with server(PROSE, page=lambda: api.page(PROSE, "toy")) as running:
        answer = ask(running, "/", method="GET")
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert b"'wasm-unsafe-eval'" in answer.body


def test_the_page_may_do_nothing_but_ask_this_server(app: Any) -> None:
    answer = ask(app, "/", method="GET")
    assert b"<title>charrnn</title>" in answer.body
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["script-src"].startswith("'sha256-")
    assert b"innerHTML" not in answer.body


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", 5), ("prompt", [1, 2]), ("prompt", [["a"]]), ("prompt", []), ("prompt", ["a"] * 129),
        ("prompt", "a" * 200_001), ("max_tokens", -1), ("max_tokens", 10**9), ("max_tokens", 1.5),
        ("max_tokens", "9"), ("max_tokens", True), ("temperature", -1), ("temperature", "hot"), ("top_p", 0),
        ("top_p", 2), ("top_k", -1), ("top_k", 1.5), ("min_p", 2), ("dry", -1), ("n", 0), ("n", 10**6),
        ("best_of", 0), ("stop", 7), ("stop", ["a"] * 17), ("stop", "a" * 1001), ("seed", -1),
        ("seed", 2**63), ("echo", "yes"), ("logprobs", 6), ("logprobs", -1), ("suffix", 3),
        ("stream", 1), ("stream_options", "all"), ("match", 1), ("ban", {}), ("only", 1),
        ("label", 1), ("strength", 2), ("on_unknown", "drop"), ("presence_penalty", 0.5),
        ("frequency_penalty", -1), ("logit_bias", {"50256": -100}), ("messages", []), ("exact", True),
        ("unique", True), ("novel", 20),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(app: Any, field: str, value: Any) -> None:
    error = refusal(ask(app, value={field: value}))
    assert error["param"] == field
    assert field in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "harmless",
    [
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "user": "me", "suffix": None},
        {"stop": None, "logprobs": None, "n": None, "best_of": None, "stream": None, "seed": None},
        {"max_tokens": 3.0, "top_k": 0, "suffix": "", "exact": False},
    ],
)
def test_what_changes_nothing_is_taken(app: Any, harmless: dict[str, Any]) -> None:
    assert len(texts(ask(app, value={"max_tokens": 3, **harmless}))) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n": 3, "best_of": 2}, "best_of is 2, and n is 3"),
        ({"best_of": 2, "stream": True}, "cannot be streamed"),
        ({"prompt": ["a"] * 100, "n": 2}, "200 texts are asked for"),
        ({"n": 100, "max_tokens": 100_000}, "too many"),
        ({"match": "a", "stop": "b"}, "match and stop contradict each other"),
        ({"match": "a{3}", "max_tokens": 2}, "give max_tokens 3 or more"),
        ({"match": "a{3"}, "is no regular expression"),
        ({"prompt": "日"}, "never seen the character '日'"),
        ({"prompt": "a", "suffix": "b", "stop": "a"}, "stop does not go together with suffix"),
        ({"prompt": "a", "suffix": "b", "max_tokens": 65}, "give 1 to 64 with suffix"),
        ({"stream_options": {"include_usage": True}}, "without stream"),
        ({"label": "x"}, "the model has no labels"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(app: Any, asked: dict[str, Any], said: str) -> None:
    ways: list[dict[str, Any]] = [{}] if {"best_of", "stream_options"} & {*asked} else [{}, {"stream": True}]
    for way in ways:
        error = refusal(ask(app, value={**asked, **way}))
        assert said in error["message"]
        assert "\n" not in error["message"]
        assert "--" not in error["message"]


def test_unknown_characters_are_left_out_if_that_is_asked_for(app: Any) -> None:
    asked = {"prompt": "a日b", "on_unknown": "skip", "seed": 1, "max_tokens": 9, "echo": True}
    assert texts(ask(app, value=asked)) == alone(PROSE, "ab", seed=1, length=9, echo=True)


def test_another_model_is_refused_by_name(app: Any) -> None:
    error = refusal(ask(app, value={"model": "gpt-4"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "'toy'" in error["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b'{"prompt": "\xff"}', b"[" * 100_000, b'{"temperature": NaN}', b"9" * 5000],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_object_is_refused(app: Any, body: bytes) -> None:
    assert "JSON" in refusal(ask(app, body=[body]))["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"]
)
def test_a_body_that_does_not_say_that_it_is_json_is_refused(app: Any, kind: str) -> None:
    answer = ask(app, value={"prompt": "a"}, headers={"content-type": kind})
    assert "application/json" in refusal(answer, 415)["message"]


def test_a_long_body_is_refused_before_it_is_read(app: Any) -> None:
    longer = {"content-length": str(2**20 + 1)}
    assert "longer" in refusal(ask(app, body=[b"{}"], headers=longer), 413)["message"]
    parts = [b'{"prompt": "'] + [b"a" * 2**16] * 17
    assert "longer" in refusal(ask(app, body=parts), 413)["message"]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True), ("localhost:8080", True), ("LOCALHOST:1", True), ("127.0.0.1:8080", True),
        ("[::1]:8080", True), ("[::1]", True), ("mine", True), ("evil.example", False),
        ("localhost.evil.example:8080", False), ("127.0.0.1.evil.example", False), ("", False),
        ("localhost:x", False), ("a:b:c", False), ("[::1", False),
    ],
)  # fmt: skip
def test_only_the_names_of_this_server_and_addresses_are_known_as_hosts(host: str, known: bool) -> None:
    with server(PROSE, hosts=["mine"]) as running:
        answer = ask(running, "/health", method="GET", headers={"host": host})
        assert (answer.status == 200) == known
        if not known:
            refusal(answer, answer.status)


def test_pages_of_other_sites_may_ask_only_where_they_are_named() -> None:
    theirs = {"origin": "https://a.example", "access-control-request-method": "POST"}
    with server(PROSE, origins=["https://a.example"]) as running:
        answer = ask(running, method="OPTIONS", headers=theirs)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        other = ask(running, method="OPTIONS", headers={**theirs, "origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
    with server(PROSE) as running:
        answer = ask(running, method="OPTIONS", headers=theirs)
        assert answer.status == 405
        assert "access-control-allow-origin" not in answer.headers


def test_chat_and_other_addresses_are_refused_in_the_same_shape(app: Any) -> None:
    assert "/v1/completions" in refusal(ask(app, "/v1/chat/completions", value={}), 404)["message"]
    assert "is not served" in refusal(ask(app, "/nothing", method="GET"), 404)["message"]
    answer = ask(app, method="GET")
    assert answer.headers["allow"] == "POST"
    refusal(answer, 405)


def test_what_cannot_be_sent_any_more_is_no_defect() -> None:
    said: list[str] = []
    with server(PROSE, report=said.append) as running:

        async def broken(message: Any) -> None:
            raise RuntimeError("the connection is closed")

        async def receive() -> Any:
            return {"type": "http.request", "body": b'{"max_tokens": 3}', "more_body": False}

        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/completions",
            "scheme": "http", "root_path": "", "query_string": b"", "server": ("localhost", 80),
            "headers": [(b"host", b"localhost"), (b"content-type", b"text/plain")],
        }  # fmt: skip
        asyncio.run(running(scope, receive, broken))
    assert said == []


# --- coming and going ------------------------------------------------------------------------------


def at_hand(app: Any) -> int:
    count: int = app.scheduler.texts_at_hand
    return count


@pytest.mark.parametrize("events", [0, 1, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(app: Any, stream: bool, events: int) -> None:
    async def leaves(sent: Any) -> None:
        while events and (len(sent) < events * stream or not at_hand(app)):
            await asyncio.sleep(0.005)

    ask(app, value={"max_tokens": 100_000, "n": 5, "stream": stream}, leaves=leaves)
    began = time.monotonic()
    while at_hand(app):
        assert time.monotonic() < began + 30
        time.sleep(0.001)


def test_more_texts_than_there_is_room_for_are_refused_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    from charrnn.serving import scheduler

    monkeypatch.setattr(scheduler, "MOST_TEXTS", 3)
    with server(PROSE) as running:
        answer = ask(running, value={"n": 4})
        assert refusal(answer, 503)["code"] == "busy"
        assert len(texts(ask(running, value={"n": 3, "max_tokens": 5}))) == 3


def test_when_the_server_stops_a_stream_says_so_and_ends() -> None:
    with server(PROSE) as running:

        async def leaves(sent: Any) -> None:
            while len(sent) < 2:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(running.scheduler.stop)
            await asyncio.sleep(60)

        answer = ask(running, value={"max_tokens": 100_000, "stream": True}, leaves=leaves)
        *_, last = (line for line in answer.body.decode().split("\n\n") if line.startswith("data: "))
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopped"
        assert refusal(ask(running, value={}), 503)["code"] == "stopped"


def test_a_defect_is_an_answer_and_a_line_and_the_next_text_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from charrnn.generation.together import Together

    said: list[str] = []
    with server(PROSE, report=said.append) as running:
        with monkeypatch.context() as patched:
            patched.setattr(Together, "_write", lambda self, until: 1 / 0)
            error = refusal(ask(running, value={"max_tokens": 5}), 500)
        assert error["type"] == "server_error"
        assert "ZeroDivisionError" in error["message"]
        assert len(said) == 1
        assert texts(ask(running, value={"seed": 1, "max_tokens": 5})) == alone(PROSE, seed=1, length=5)


def test_texts_of_many_manners_are_written_and_few_are_kept(app: Any) -> None:
    from charrnn.serving.scheduler import MOST_IDLE

    for n in range(3 * MOST_IDLE):
        temperature = 0.5 + n / 100
        found = texts(ask(app, value={"seed": 1, "max_tokens": 8, "temperature": temperature}))
        assert found == alone(PROSE, seed=1, length=8, temperature=temperature)
    assert len(app.scheduler._groups) <= MOST_IDLE + 1


def test_the_configuration_has_every_setting_of_the_description() -> None:
    from charrnn.serving.schema import openapi

    described = openapi()["components"]["schemas"]["CompletionRequest"]["properties"]
    for name in ("temperature", "top_k", "top_p", "min_p", "typical", "mirostat", "dry"):
        assert described[name]["default"] == getattr(SampleConfig(), name)
