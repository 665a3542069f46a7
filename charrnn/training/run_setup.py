"""From a request to a training run: earlier runs, the texts, the settings, and finally the run."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from charrnn.checkpoint import kinds, model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig, canonical, has_memory, to_dict
from charrnn.errors import ConfigError, TrainingError, VocabularyError, decimal
from charrnn.events import Compiling, Started
from charrnn.nn.learning.compilation import compile_kernels, start_helper
from charrnn.nn.learning.speed import Pace, characters_per_second, pace
from charrnn.nn.parameters import Array
from charrnn.nn.precision import agreed, choose, require
from charrnn.nn.workers import Workers
from charrnn.tasks.task import Material, Stop, beside
from charrnn.training.earlier_run import Earlier, Interrupted, look
from charrnn.training.locking import exclusive
from charrnn.training.planning import meeting, reading, remembering
from charrnn.training.planning.writing import Plan, Speed, by_speed, plan
from charrnn.training.request import (
    MODEL_SETTINGS,
    TRAIN_SETTINGS,
    Request,
    example,
    only,
    refuse_too_many,
)
from charrnn.training.run import Run
from charrnn.training.run_files import Outputs

# Fine-tuning starts from good weights, which the usual peak would first unlearn.
# Of 20 surnames of each of 18 languages, begun with a model that writes, 51 % were right at 1e-3, 42 at 2e-3.
FINE_TUNING_RATE, FINE_TUNING_RATES = 2e-3, {"classifier": 1e-3}  # and those of kinds that differ


@dataclass(frozen=True)
class Settled:
    """The decisions about a run: the texts, all settings, the initial weights."""

    material: Material
    model: ModelConfig
    train: TrainConfig
    init: str = ""  # identifies the initial weights, if these are a model's
    planned: str = ""  # the chosen settings and the reason, on one line
    initial: Checkpoint | None = None  # the model that the run starts from

    @classmethod
    def of(
        cls, material: Material, settings: dict[str, Any], initial: Checkpoint | None, planned: str
    ) -> Settled:
        """With all settings of a plan."""
        corpus = material.corpus
        model = material.network(only(settings, MODEL_SETTINGS))
        train = TrainConfig(**only(settings, TRAIN_SETTINGS))
        # With a separate text for validation, the split means nothing.
        apart = material.validation is not None
        split = None if apart else canonical(train.val_split, lines=corpus.text.records)
        init = "" if initial is None else _digest(initial, _lasting(material, train))
        return cls(material, model, replace(train, val_split=split), init, planned, initial)

    def fingerprint(self) -> str:
        """The identity of a run: corpus, network, settings and initial weights."""
        parts: list[Any] = [self.material.fingerprint(), to_dict(self.model), to_dict(self.train), self.init]
        if self.train.shares is not None:
            parts.append(self.material.corpus.parts)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def set_up(
    request: Request, *, stop: Stop, held: ExitStack, began: float | None = None
) -> Generator[Compiling, None, tuple[Run, Started]]:
    """The requested run, ready to start.

    Yields events while kernels are compiled, which happens here if the plan depends on their speed. Closing
    `held` at the end of the run unlocks the model file. Its minutes have `began` on time.monotonic()'s clock,
    or do so now.
    """
    began = time.monotonic() if began is None else began
    given = request.checked()
    out = request.path()
    held.enter_context(exclusive(out))
    earlier = look(out, request.target)
    initial = None
    if request.init_from is not None:
        suitable = dict.fromkeys((request.assignment.kind, "writer"))  # which begins all kinds
        initial = kinds.require(model_file.load(request.init_from), *suitable)
        if initial.config.recurrence.is_made:
            raise ConfigError(
                "the model to start from is a read-out of a reservoir, which fits no other text",
                "leave out --init-from: it learns anew in seconds",
            )
    workers = Workers(request.threads, request.ranks)
    if earlier.interrupted is not None:
        settled = _as_before(earlier, earlier.interrupted, request, given, held)
    else:
        settled = yield from _anew(earlier, request, given, initial, workers, held)
    material, train, run_id = settled.material, settled.train, settled.fingerprint()
    refuse_too_many(request.ranks.size, train.shards)
    start = earlier.settle(run_id, request.target)
    corpus, settings = material.corpus, to_dict(train)
    blank = Checkpoint(settled.model, corpus.vocabulary, corpus.text, {}, run=run_id, settings=settings)
    blank = replace(blank, columns=corpus.columns)
    task, network = material.begin(settled.model, train, settled.initial, workers)
    outputs = Outputs(out, request.target.keep_models)
    lasting = _lasting(material, train)
    run = Run(task, network, train, blank, outputs, init=settled.init, lasting=lasting, stop=stop)
    run.position.seconds = time.monotonic() - began
    outputs.clean()
    earlier.hand_over(run, start)
    step = run.position.step
    notes = (
        *corpus.notes,
        *earlier.notes(request.target),
        *task.warnings(chosen="val_fraction" in given or step > 0),
    )
    return run, Started(
        corpus, material.different, material.validation, settled.model, train, task.characters,
        task.val_characters, workers.size, out, step, notes, settled.planned, request.ranks.size,
    )  # fmt: skip


def _as_before(
    earlier: Earlier, old: Interrupted, request: Request, given: dict[str, Any], held: ExitStack
) -> Settled:
    """The interrupted run, with the settings of its start."""
    old.refuse_changes(given, request)
    model, train = old.model, old.train
    require(train.precision, "go on with the run on a CPU that has, or start anew with --force")
    agreed(train.precision, request.ranks)
    start_helper(
        held, model, request.threads, train.precision == "bfloat16", beside(asdict(train), model.kind)
    )
    try:
        material = request.assignment.read(old.text)
        material = material.within(old.vocabulary, old.columns).resumed(old.tensors)
    except VocabularyError as error:
        raise earlier.another_corpus() from error
    except ValueError as error:
        raise TrainingError(
            f"the resume file of {earlier.out} is damaged: {error}", "start anew with --force"
        ) from error
    validation = material.validation
    if train.val_text != ("" if validation is None else validation.fingerprint()):
        raise earlier.another_corpus()
    return Settled(material, model, train, old.init)


def _anew(
    earlier: Earlier,
    request: Request,
    given: dict[str, Any],
    initial: Checkpoint | None,
    workers: Workers,
    held: ExitStack,
) -> Generator[Compiling, None, Settled]:
    """A new run. Settings that are not given are chosen to suit the texts."""
    kind, shards = request.assignment.kind, given.get("shards", request.ranks.shards or 1)
    given = given if shards == 1 else {**given, "shards": shards}
    if initial is not None:
        given = _with_network_of(initial, given, kind)
    writes = kind == "writer"
    guess = example(kind, given)  # calls the same kernels
    wanted, alike = agreed(given.get("precision", "auto"), request.ranks)
    given = {**given, "precision": wanted} if alike else given
    bfloat16 = choose(wanted, guess) == "bfloat16"
    counts = beside({"counts": True, **given}, kind)
    start_helper(held, guess, request.threads, bfloat16, counts)
    material, said, from_base = request.assignment.read(_text(request, earlier.model)), "", False
    if material.validation is not None:
        given = {**given, "val_fraction": 0.0, "val_text": material.validation.fingerprint()}
    base = material.base() if initial is None and not request.from_scratch else None
    if base is not None:
        said = _unlike(base, given)
        if not said:
            yield from _compile(guess, bfloat16, beside({"counts": True}))  # which it is compared with
            initial, given, said = _from(base, material, given, workers)
            from_base = initial is not None
    if initial is not None:
        material = material.beside(initial)
    repeated = _repeated(earlier, material, given, initial, from_base=from_base)
    if repeated is not None:
        return repeated
    corpus = material.corpus
    # The network between several machines may be slow; what readers take is not measured.
    apart = writes and "sync_every" not in given and len(set(request.ranks.hosts)) > 1
    if apart or (writes and by_speed(len(corpus.documents), given)):
        yield from _compile(guess, bfloat16, counts)

    def how(network: ModelConfig) -> dict[str, Any]:
        bfloat16 = choose(wanted, network) == "bfloat16"
        return {"bfloat16": bfloat16, "workers": workers, "shards": shards}

    @functools.cache
    def paced(network: ModelConfig, batch_size: int, seq_len: int) -> Pace:
        return pace(network, batch_size, seq_len, **how(network))

    def speed(network: ModelConfig, batch_size: int, seq_len: int) -> float:
        if not apart and given.get("sync_every", 1) == 1:
            return characters_per_second(network, batch_size, seq_len, **how(network))
        found = paced(network, batch_size, seq_len)
        every = given.get("sync_every", meeting.sync_every(found))
        return batch_size * seq_len / found.with_exchanges(every)

    chosen, meet = _plan(material, given, speed, from_base=from_base), ""
    if apart:
        settled = Settled.of(material, chosen.settings, initial, "")
        found = paced(settled.model, settled.train.batch_size, settled.train.seq_len)
        chosen.settings["sync_every"] = every = meeting.sync_every(found)
        meet = meeting.reason(found, every)
    reason = "; ".join(filter(None, (chosen.reason, said, alike, meet)))
    settled = Settled.of(material, chosen.settings, initial, reason)
    precision = choose(settled.train.precision, settled.model)
    return replace(settled, train=replace(settled.train, precision=precision))


def _text(request: Request, before: Checkpoint | None) -> TextConfig:
    """How to read the texts. What a complete run's model restores need not be said again with --resume."""
    text = request.text
    if before is None or not request.target.resume or before.config.kind != request.assignment.kind:
        return text
    return replace(text, strip=text.strip or before.text.strip)


def _compile(network: ModelConfig, bfloat16: bool, counts: str | None) -> Iterator[Compiling]:
    return (Compiling(*done) for done in compile_kernels(network, bfloat16, counts))


def _unlike(base: Checkpoint, given: dict[str, Any]) -> str:
    """Why a run with these settings cannot start from the base model; "": it can."""
    other = sorted(name for name, value in _shape(base).items() if given.get(name, value) != value)
    return f"from scratch, as --{other[0].replace('_', '-')} is given" if other else ""


def _from(
    base: Checkpoint, material: Material, given: dict[str, Any], workers: Workers
) -> tuple[Checkpoint | None, dict[str, Any], str]:
    """The base model where the text is better learned from it, the settings that follow, and what to say."""
    shape = _shape(base)
    train = TrainConfig(**only(_plan(material, given, lambda *_: 1.0).settings, TRAIN_SETTINGS))
    loss = material.begins_at(base, shape, train, workers)
    if loss is None:
        return None, given, ""
    said = f"from the base model of English, whose loss begins at {decimal(loss)}"
    return base, {**shape, **given}, said


def _shape(model: Checkpoint) -> dict[str, Any]:
    """The settings of a model's network but for dropout."""
    network = only(asdict(model.config), MODEL_SETTINGS)
    del network["dropout"]
    return network


def _repeated(
    earlier: Earlier,
    material: Material,
    given: dict[str, Any],
    initial: Checkpoint | None,
    *,
    from_base: bool,
) -> Settled | None:
    """The plan of the existing model, if the same run is requested.

    The machine's speed is not measured again, so that repeating a command repeats the run. Settings that do
    not depend on it must be as they would be planned now.
    """
    before = earlier.model
    if before is None:
        return None
    try:
        train = TrainConfig(**before.settings)
    except (TypeError, ConfigError):
        return None  # of another version
    corpus = material.corpus
    made = _plan(material, given, lambda *_: 1.0, from_base=from_base).settings
    free = by_speed(len(corpus.documents), given) if material.kind == "writer" else set()
    if given.get("precision", "auto") == "auto":
        free.add("precision")
    if "sync_every" not in given:
        free.add("sync_every")
    chosen = {**asdict(before.config), **asdict(train)}
    made |= {name: chosen[name] for name in free}
    settled = Settled.of(material, made, initial, f"as {earlier.out} was trained")
    same = (settled.model, settled.train) == (before.config, train)
    return settled if same and settled.fingerprint() == before.run else None


def _plan(material: Material, given: dict[str, Any], speed: Speed, *, from_base: bool = False) -> Plan:
    """The settings that suit the texts."""
    corpus = material.corpus
    if has_memory(given.get("cell", "")):
        return remembering.plan(material.kind, len(corpus.documents), material.texts, given)
    if material.kind != "writer":
        return reading.plan(material.kind, len(corpus.documents), material.texts, given)
    return plan(len(corpus.documents), len(corpus.vocabulary), given, speed, from_base=from_base)


def _with_network_of(initial: Checkpoint, given: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The settings for fine-tuning as this kind: the network is the model's, but for dropout."""
    network = _shape(initial)
    for name, value in network.items():
        if given.get(name, value) != value:
            raise ConfigError(
                f"{name.replace('_', '-')} {given[name]} is not that of the model to start from, {value}",
                "leave it out with --init-from",
            )
    rate = FINE_TUNING_RATES.get(kind, FINE_TUNING_RATE)
    return {"learning_rate": rate, "dropout": initial.config.dropout, **network, **given}


def _lasting(material: Material, train: TrainConfig) -> dict[str, Array]:
    """What a resumed run has to know of the model that the run started from, beside its weights."""
    return material.lasting() if train.counts else {}


def _digest(checkpoint: Checkpoint, lasting: dict[str, Array]) -> str:
    digest = hashlib.sha256()
    for name, tensor in (checkpoint.tensors | lasting).items():
        digest.update(name.encode() + tensor.tobytes())
    return digest.hexdigest()
