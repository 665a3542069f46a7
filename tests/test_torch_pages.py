"""PyTorch computes by the lines of docs/tagging.md, rewriting.md and remembering.md what charrnn does."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import record_torch_pages as record

from charrnn.nn.network import Model
from charrnn.nn.reader import Reader
from charrnn.nn.workers import Workers


@pytest.mark.parametrize("page", record.PAGES)
def test_pytorch_reads_every_kind_of_model_as_its_page_says(page: str) -> None:
    recorded, again = np.load(record.RECORDINGS / f"{page}.npz"), "run tests/record_torch_pages.py"
    assert str(recorded["code"]) == hashlib.sha256(record.code(page).encode()).hexdigest(), again
    workers, seen = Workers(1), 0
    for name, model in record.models(record.PAGES[page][0]):
        assert record.digest(model) == str(recorded[f"file/{name}"]), again
        x = model.vocabulary.encode(record.TEXTS[page]).astype(np.int32)[:, None]
        if page == "remembering":
            writer = Model(model.config, workers=workers)
            writer.load_tensors(model.tensors)
            own = writer.forward(np.concatenate([[[len(model.vocabulary)]], x]).astype(np.int32))[0][:, 0]
            expected = recorded[f"logits/{name}"]
            np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5, err_msg=name)
            seen += 1
            continue
        network = Reader(model.config, workers=workers)
        network.load_tensors(model.tensors)
        lengths = np.array([len(x)])
        if page == "tagging":
            np.testing.assert_array_equal(network.best(x, lengths)[0][:, 0], recorded[f"tags/{name}"], name)
            expected, own = recorded[f"scores/{name}"], network.forward(x, lengths)[:, 0]
            own[0] += model.tensors["crf.start_transitions"]
            own[-1] += model.tensors["crf.end_transitions"]
        else:
            expected = recorded[f"logits/{name}"]
            chosen = expected.argmax(axis=1)
            previous = np.concatenate([[len(model.columns[0].labels) + 1], chosen[:-1]]).astype(np.int32)
            own = network.forward(x, lengths, previous[:, None])[:, 0]
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        seen += 1
    assert seen == {"tagging": 24, "rewriting": 48, "remembering": 2}[page]
