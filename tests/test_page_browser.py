"""A page in a real Chromium, opened from file:// without a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import random_models
from support.browser import Browser, browser, needs_chromium
from support.calls import call

from charrnn.checkpoint.model_file import Checkpoint, save
from charrnn.config import TextConfig
from charrnn.labels import Column
from charrnn.pages.page import page

pytestmark = needs_chromium
TEXT = "document.getElementById('text')"
DONE = "document.getElementById('said').textContent.includes('characters')"
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


def opened(chromium: Browser, folder: Path, model: Checkpoint, fragment: str = "") -> Path:
    """The model's file, whose page the browser has opened."""
    path = folder / "tales.safetensors"
    save(model, path)
    made = call("export", "page", "-m", path, "-o", folder / "tales.html")
    assert made.returncode == 0, made.stderr
    chromium.open((folder / "tales.html").as_uri() + fragment)
    assert chromium.run("return charrnn.ready") == {"kernels": "WebAssembly"}
    return path


def told(path: Path, *words: object) -> str:
    """What the command writes."""
    result = call("sample", "-m", path, "--precision", "bfloat16", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode("utf-8", "replace")


def test_a_click_writes_what_the_command_writes(chromium: Browser, tmp_path: Path) -> None:
    path = opened(chromium, tmp_path, random_models.make(hidden_size=20, norm=True, residual=True))
    for name, value in {"prompt": "ab", "length": "200", "temperature": "1.2", "seed": "11"}.items():
        chromium.press(f"#{name}", value)
    chromium.click("#write")
    chromium.wait(DONE)
    words = ["--prompt", "ab", "-n", 200, "--temp", 1.2, "--seed", 11]
    assert chromium.run(f"return {TEXT}.textContent") == "ab" + told(path, *words)
    shown = chromium.run("return document.getElementById('command').textContent")
    model = "-m tales.safetensors --precision bfloat16"
    assert shown == f"charrnn sample {model} --prompt ab --length 200 --temp 1.2 --seed 11"
    # The address reproduces it.
    address = chromium.run("return location.href")
    assert address.endswith("#prompt=ab&length=200&temperature=1.2&seed=11")
    chromium.open(address)
    chromium.wait(DONE)
    assert chromium.run(f"return {TEXT}.textContent") == "ab" + told(path, *words)
    options = "{prompt: 'c', length: 50, top_k: 3, top_p: 0.9, min_p: 0.01, seed: 2n ** 63n - 1n}"
    words = ["-n", 50, "--top-k", 3, "--top-p", 0.9, "--min-p", 0.01, "--prompt", "c", "--seed", 2**63 - 1]
    assert chromium.run(f"return charrnn.write({options})") == told(path, *words)
    assert chromium.messages() == []


def test_what_was_expected_is_shown_where_one_points_and_by_the_keyboard(
    chromium: Browser, tmp_path: Path
) -> None:
    opened(chromium, tmp_path, random_models.make(text=TextConfig(lines=True)), "#seed=1")
    chromium.wait(DONE)
    where = "document.getElementById('where').textContent"
    bars = "[...document.querySelectorAll('#bars tr')].map((row) => row.cells[0].textContent)"
    chromium.press("#text", "\ue010\ue011")  # End, Home
    first = chromium.run(f"return {TEXT}.textContent")[0]
    named = {" ": "space", "\n": "new line"}
    assert chromium.wait(where).startswith(f"{named.get(first, first)} came, which took ")
    assert len(chromium.run(f"return {bars}")) == 8
    chromium.press("#text", "\ue014")  # to the right
    second = chromium.run(f"return {TEXT}.textContent")[1]
    assert chromium.wait(where).startswith(f"{named.get(second, second)} came")
    point = f"const box = {TEXT}.querySelector('span').getClientRects()[0];"
    event = "{clientX: box.left + 2, clientY: box.top + 5, bubbles: true}"
    chromium.run(f"{point} {TEXT}.dispatchEvent(new MouseEvent('mousemove', {event}))")
    assert chromium.run(f"return {where}").startswith(f"{named.get(first, first)} came")
    chromium.click("#heating summary")
    chromium.press("#pasted", "abx")
    chromium.click("#heat-form button")
    chromium.wait("document.getElementById('heat-said').textContent.includes('bits')")
    assert chromium.run("return document.getElementById('heat').textContent") == "abx"
    assert chromium.run("return document.getElementById('heat').lastChild.lastChild.className") == "h7"
    assert chromium.messages() == []


def test_nothing_of_a_model_or_an_address_becomes_more_than_text(chromium: Browser, tmp_path: Path) -> None:
    model = random_models.make(characters="\n" + "".join(sorted(set(HOSTILE) - {"\n"})), labels=(1,))
    model = replace(model, columns=(Column("", (HOSTILE,), (1,)),))
    path = opened(chromium, tmp_path, model, f"#prompt={HOSTILE}&seed=3&label={HOSTILE}&length=30")
    chromium.wait(DONE)
    words = ["--prompt", HOSTILE, "--seed", 3, "-n", 30, "--label", HOSTILE]
    assert chromium.run(f"return {TEXT}.textContent") == HOSTILE + told(path, *words)
    assert chromium.run("return document.images.length + document.scripts.length") == 5
    assert chromium.run("return document.querySelector('option:checked').textContent") == HOSTILE
    assert (
        chromium.run("return fetch('https://example.org').then(() => 'sent', () => 'blocked')") == "blocked"
    )
    assert all("Content Security Policy" in message for message in chromium.messages())


def test_a_long_text_can_be_stopped_and_the_next_one_is_whole(chromium: Browser, tmp_path: Path) -> None:
    path = opened(chromium, tmp_path, random_models.make(), "#length=100000000&seed=5")
    chromium.wait(f"{TEXT}.textContent.length > 15_000")  # of more, the page keeps the last 20,000
    chromium.click("#stop")
    chromium.wait(DONE)
    shown = chromium.run(f"return {TEXT}.textContent")
    assert len(shown) <= 40_000
    stopped = """
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 100);
    const written = charrnn.write({length: 1e8, seed: 5, signal: stop.signal});
    return written.then((text) => Array.from(text).slice(0, 50).join(''));
    """
    assert chromium.run(stopped) == told(path, "-n", 50, "--seed", 5).removesuffix("\n")
    assert chromium.run("return charrnn.write({length: 9, seed: 5})") == told(path, "-n", 9, "--seed", 5)
    refused = "return charrnn.write({length: -1}).then(() => '', (problem) => problem.message)"
    assert chromium.run(refused) == "length is -1: give a whole number from 0 to 1000000000"
    assert chromium.messages() == []


def test_without_vectors_a_page_writes_the_same(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(random_models.make(), path)
    (tmp_path / "m.html").write_text(page(random_models.make(), "m"), "utf-8")
    without = """
    const Whole = Blob;
    Blob = function (parts, options) {
      return new Whole(options ? ["WebAssembly = undefined;", ...parts] : parts, options);
    };
    """
    added: Any = chromium.command("Page.addScriptToEvaluateOnNewDocument", source=without)
    try:
        chromium.open((tmp_path / "m.html").as_uri())
        assert chromium.run("return charrnn.ready") == {"kernels": "plain JavaScript"}
        assert chromium.run("return charrnn.write({seed: 4})") == told(path, "--seed", 4)
    finally:
        chromium.command("Page.removeScriptToEvaluateOnNewDocument", **added)
    assert chromium.messages() == []
