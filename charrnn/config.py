"""All settings and their defaults, as frozen dataclasses that validate themselves.

A setting out of range raises ConfigError, which names the setting, the value and the range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from charrnn.errors import ConfigError, quoted
from charrnn.inference.filters import Filters, active
from charrnn.nn import cells, modules
from charrnn.nn.cell import Cell as RecurrentCell

if TYPE_CHECKING:
    from charrnn.nn.modules.module import Sequential
    from charrnn.nn.modules.writing.reservoir import Echo

    Cell = str
    Nonlinearity = str
else:
    Cell, Nonlinearity = Literal[cells.kinds()], Literal[cells.nonlinearities()]
WeightPrecision = Literal["float32", "bfloat16"]
TrainPrecision = Literal["auto", "float32", "bfloat16"]
ValSplit = Literal["scattered", "end"]
EncodingErrors = Literal["strict", "skip", "replace"]
LabelBy = Literal["column", "file", "folder"]
Kind = Literal["writer", "classifier", "restorer", "tagger", "rewriter", "filler"]
Attention = Literal["additive", "dot"]
Strip = Literal["diacritics", "case", "spaces", "punctuation"]
Targets = Literal["characters", "words", "tags"]
NormalForm = Literal["NFC", "NFD"]

WEIGHT_PRECISIONS: tuple[str, ...] = get_args(WeightPrecision)
NORMAL_FORMS: tuple[NormalForm, ...] = get_args(NormalForm)
STRIPS: tuple[Strip, ...] = get_args(Strip)
# The command that uses a model of each kind; of those that read, it is also the name of the task.
COMMANDS: dict[Kind, str] = {
    "writer": "sample",
    "classifier": "classify",
    "restorer": "restore",
    "tagger": "tag",
    "rewriter": "rewrite",
    "filler": "fill",
}
KINDS = tuple(COMMANDS)
TELL_CHARACTERS: tuple[Kind, ...] = ("writer", "filler")  # of their vocabulary: they have no `targets`
TASKS = tuple(COMMANDS[kind] for kind in KINDS[1:])
DEFAULT_ENCODING = "utf-8"
FIRST_RELEASE = 3  # version of the file format: its settings are shown, whatever they are
# The end of a text, in the vocabulary of a model of records. It is the last code point of all, so its id is
# the last one, too; it is no character, and no record holds it: see charrnn.text.files.decoding.Cleaner.
END = "\U0010ffff"
MOST_LABELS, MOST_COLUMNS = 2**16, 16  # different labels in a column, and columns
MOST_TARGETS = 2**20
MOST_REMEMBERED = 10_000  # characters, by a cache
SEPARATIONS = ("blank", "nul", "file")  # one or more empty lines; NUL characters; the files' ends


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"{name.replace('_', '-')} is {quoted(value)}", f"give {wanted}")


def _check_number(name: str, value: object, low: float, high: float, whole: bool, wanted: str = "") -> None:
    _require(
        isinstance(value, int if whole else (int, float))
        and not isinstance(value, bool)
        # NaN is outside, too; isfinite would raise on integers that are too large for a float.
        and low <= value <= high,
        name,
        value,
        wanted or f"a {'whole ' if whole else ''}number from {low} to {high}",
    )


def limited(default: Any, low: float, high: float, wanted: str = "", shown: str = "", **more: Any) -> Any:
    """A number from `low` to `high`; errors say what is `wanted`, and call it as `shown`."""
    return field(default=default, metadata={"limits": (low, high), "wanted": wanted, "shown": shown, **more})


def named(default: Any, names: Sequence[str] | Callable[[], Sequence[str]], **more: Any) -> Any:
    """A setting with one of these values, or of those that the function returns when it is checked.

    If the default is a tuple, it has any number of them.
    """
    return field(default=default, metadata={"names": names, **more})


def later(default: Any, version: int) -> Any:
    """A setting that was added in this version of the file format.

    It is written only if it differs from its default, so that earlier programs can read all other files.
    """
    return field(default=default, metadata={"version": version})


def _check(config: Any) -> None:
    """Check truth values, numbers and names; None is allowed where it is the default.

    Raises:
        ConfigError: a value is of another type, or out of range.
    """
    for setting in fields(config):
        value, known = getattr(config, setting.name), setting.metadata
        if value is None and setting.default is None:
            continue
        if setting.type == "bool":
            _require(isinstance(value, bool), setting.name, value, "true or false")
        elif "names" in known:
            names = known["names"]() if callable(known["names"]) else known["names"]
            if several := isinstance(setting.default, tuple):
                _require(isinstance(value, tuple), setting.name, value, "a tuple of names")
            for one in value if several else (value,):
                _require(one in names, setting.name, one, f"one of {', '.join(names)}" if names else "none")
        elif "limits" in known:
            (low, high), whole = known["limits"], str(setting.type).startswith("int")
            _check_number(known["shown"] or setting.name, value, low, high, whole, known["wanted"])


def is_made(cell: str) -> bool:
    """Whether the weights of a cell, as commands call it, are made from a seed, and never trained."""
    known = cells.cell_of(cell, "")
    return known is not None and known.is_made


def without_attention(kind: Kind, cell: str) -> ConfigError:
    """What to say of a setting `attention` to a network that attends to no source."""
    if has_memory(cell):
        return ConfigError(f"--cell {cell} has a memory, not --attention", "leave one out")
    others = "give --span N to look back at its own past" if kind == "writer" else "leave it out"
    return ConfigError("--attention is for models that rewrite", f"{others}, or give --task rewrite")


def has_memory(cell: str) -> bool:
    """Whether a cell, as commands call it, is a controller with a memory."""
    known = cells.cell_of(cell, "")
    return known is not None and known.controller is not None


def _is_written(config: Any, setting: Field[Any]) -> bool:
    return "version" not in setting.metadata or getattr(config, setting.name) != setting.default


def shown(config: Any) -> dict[str, Any]:
    """The settings of a configuration by name, for people and programs that read them."""
    old = [setting.name for setting in fields(config) if setting.metadata.get("version", 1) <= FIRST_RELEASE]
    return {name: getattr(config, name) for name in old} | to_dict(config)


def to_dict(config: Any) -> dict[str, Any]:
    """The settings of a configuration by name, as stored in files and fingerprints."""
    return {s.name: getattr(config, s.name) for s in fields(config) if _is_written(config, s)}


def format_version(*configs: Any) -> int:
    """The lowest version of the file format that can hold these configurations."""
    written = (s for config in configs for s in fields(config) if _is_written(config, s))
    return max(int(setting.metadata.get("version", 1)) for setting in written)


class _Stored:
    """A configuration that model files hold."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, as `from_dict` takes them."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """The configuration that `to_dict` wrote.

        Raises:
            ConfigError: a key is missing or unknown, or a value is out of range.
        """
        what = f"the {cls.__name__.removesuffix('Config').lower()} configuration"
        if not isinstance(values, dict):
            raise ConfigError(f"{what} is not a table of settings")
        settings: tuple[Field[Any], ...] = fields(cls)  # type: ignore[arg-type]
        first = {setting.name for setting in settings if "version" not in setting.metadata}
        if missing := sorted(first - values.keys()):
            raise ConfigError(f"{what} lacks {', '.join(missing)}")
        if unknown := sorted(map(quoted, values.keys() - {setting.name for setting in settings})):
            raise ConfigError(f"{what} has unknown settings, such as {unknown[0]}")
        return cls(**values)


class Form(NamedTuple):
    """The form of a text's characters."""

    normal: NormalForm | None = None
    lowercase: bool = False


@dataclass(frozen=True, slots=True)
class TextConfig(_Stored):
    """How bytes become text. Stored in the model file, so that later commands read text the same way."""

    encoding: str = DEFAULT_ENCODING
    bytes: bool = False  # every byte is a character (U+0000 to U+00FF); encoding is ignored
    lines: bool = False  # every line is one document, its "\n" the document's last character
    keep_newlines: bool = False  # keep CRLF and CR
    # Bytes that are invalid in the encoding raise an error, are skipped, or each sequence becomes U+FFFD.
    encoding_errors: EncodingErrors = named("strict", get_args(EncodingErrors), version=3)
    # The form of the corpus, to which texts read by later commands are converted.
    normal_form: NormalForm | None = named(None, NORMAL_FORMS, version=3)
    # What separates records, each a document that ends with END: one of SEPARATIONS, or a line.
    # None: there are no records or, with `lines`, each line is one.
    split: str | None = later(None, version=4)
    # In tables, JSON lines and CSV, the name of the field that is a record; other fields are ignored.
    field: str | None = later(None, version=4)
    lowercase: bool = later(False, version=4)
    # Characters that occur less often became charrnn.vocabulary.RARE, and so do all that the corpus lacks.
    min_count: int = limited(1, 1, 10**9, version=4)
    max_chars: int | None = limited(None, 1, 10**9, version=4)  # longer records are left out
    # Where the labels of texts stand: before each, with a tab after each label, or in the names of its files.
    label_by: LabelBy | None = named(None, get_args(LabelBy), version=4)
    # What a model puts back, in the order of STRIPS: it learned from the text without it.
    strip: tuple[Strip, ...] = named((), STRIPS, version=5)
    # Each line is a source, a tab and a target: characters, words with spaces between them, or tags, which
    # are one or the other, one for each character of the source. None: there are no targets.
    targets: Targets | None = named(None, get_args(Targets), version=5)
    reverse: bool = later(False, version=5)  # the target stands before the tab
    label_fields: tuple[str, ...] = later((), version=4)  # in tables, the names of the fields that are labels

    def __post_init__(self) -> None:
        ok = isinstance(self.encoding, str) and self.encoding and self.encoding.isascii()
        _require(
            bool(ok) and self.encoding.isprintable(),
            "encoding",
            self.encoding,
            "the name of an encoding, such as utf-8 or latin-1",
        )
        if isinstance(self.strip, list):  # from a file
            object.__setattr__(self, "strip", tuple(self.strip))
        _check(self)
        object.__setattr__(self, "strip", tuple(kind for kind in STRIPS if kind in self.strip))
        if self.split == "line":
            object.__setattr__(self, "split", None)
            object.__setattr__(self, "lines", True)
        elif self.field is not None and not self.lines and self.split is None:
            object.__setattr__(self, "split", SEPARATIONS[0])
        split = self.split
        _require(
            split is None or (isinstance(split, str) and split != "" and "\n" not in split),
            "split", split, f"{', '.join(SEPARATIONS)}, or a line that separates texts, such as %",
        )  # fmt: skip
        if self.lines and self.split is not None:
            raise ConfigError("--lines and --split contradict each other", "give one of them")
        _require(
            self.field is None or (isinstance(self.field, str) and self.field != ""),
            "field", self.field, "the name of a field",
        )  # fmt: skip
        if self.max_chars is not None and not self.records:
            raise ConfigError("--max-chars leaves out whole texts, and this is one", "give --split, too")
        cleaned = (self.lowercase, self.min_count > 1, self.field is not None)
        if self.bytes and any(cleaned):
            names = ("--lowercase", "--min-count", "--field")
            name = next(name for name, given in zip(names, cleaned, strict=True) if given)
            raise ConfigError(f"--bytes and {name} contradict each other", "give one of them")
        if self.strip and (self.bytes or (self.lowercase and "case" in self.strip)):
            name = "--bytes" if self.bytes else "--lowercase"
            raise ConfigError(f"{name} and --strip contradict each other", "give one of them")
        self._check_labels()

    def _check_labels(self) -> None:
        if isinstance(self.label_fields, list):  # from a file
            object.__setattr__(self, "label_fields", tuple(self.label_fields))
        fields = self.label_fields
        _require(
            isinstance(fields, tuple) and all(isinstance(name, str) and name for name in fields),
            "label_fields", fields, "the names of fields",
        )  # fmt: skip
        _require(len(fields) <= MOST_COLUMNS, "label_fields", fields, f"at most {MOST_COLUMNS}")
        if fields:
            if self.field is None:
                raise ConfigError("--label-field names a field of tables", "give --field, too")
            if len({self.field, *fields}) <= len(fields):
                raise ConfigError("a field is named twice, as a label or as the text", "name each once")
            if self.label_by not in (None, "column"):
                raise ConfigError("--label-field and --label-by contradict each other", "give one of them")
            object.__setattr__(self, "label_by", "column")
        if self.label_by == "column" and not self.records:
            raise ConfigError("labels stand before texts, and this is one", "give --lines, too")
        self._check_targets()

    def _check_targets(self) -> None:
        if self.targets is None:
            _require(not self.reverse, "reverse", self.reverse, "it with targets alone")
            return
        others = ("--split", self.split), ("--field", self.field), ("--labels", self.label_by)
        for option, given in (*others, ("--bytes", self.bytes or None)):
            if given is not None:
                raise ConfigError(f"sources and targets are lines, and {option} is given", "leave it out")
        object.__setattr__(self, "lines", True)

    @property
    def records(self) -> bool:
        """Whether texts end: a file may hold several."""
        return self.lines or self.split is not None

    @property
    def form(self) -> Form:
        """The form to which all texts for the model are brought."""
        return Form(self.normal_form, self.lowercase)

    @property
    def end(self) -> str:
        """The character that ends a text: "\\n", or END; empty if texts do not end."""
        return "\n" if self.lines else END if self.split is not None else ""

    @property
    def separator(self) -> str:
        """What is written after each text of a model of records, so that reading cuts there; else empty."""
        if self.split is None:
            return ""
        return {"blank": "\n\n", "file": "\n\n", "nul": "\0"}.get(self.split, f"\n{self.split}\n")

    def of_commands(
        self,
        encoding: str | None = None,
        encoding_errors: EncodingErrors | None = None,
        *,
        nul: bool = False,
    ) -> TextConfig:
        """The configuration with which commands read text for this model: UTF-8 unless an encoding is given.

        With `nul`, NULs separate texts.

        Raises:
            ConfigError: an encoding is given for a model that reads bytes, or its name is invalid.
        """
        own = self
        if nul:  # what NULs separate is no table, and has neither labels nor targets
            nothing: dict[str, Any] = {"field": None, "label_by": None, "label_fields": (), "targets": None}
            own = replace(self, lines=False, split="nul", **nothing, reverse=False)
        if self.bytes:
            if encoding is not None:
                raise ConfigError("the model reads bytes, which have no encoding", "leave out --encoding")
            return own
        errors = encoding_errors or self.encoding_errors
        return replace(own, encoding=encoding or DEFAULT_ENCODING, encoding_errors=errors)


@dataclass(frozen=True, slots=True)
class ModelConfig(_Stored):
    """The network. Each cell's equations are those of PyTorch's layer of the same name."""

    vocab_size: int = limited(MISSING, 1, 0x110000)  # V
    cell: Cell = named(cells.kinds()[0], cells.kinds)
    nonlinearity: Nonlinearity = named(cells.nonlinearities()[0], cells.nonlinearities)  # of the vanilla RNN
    hidden_size: int = limited(256, 1, 16384)  # H
    num_layers: int = limited(2, 1, 64)  # L
    embedding_size: int = limited(256, 0, 16384)  # D of the first layer; 0: one-hot input
    norm: bool = True  # layer norm after each recurrent layer
    residual: bool = True  # a skip connection around each recurrent layer
    dropout: float = limited(0.0, 0, 0.95)  # after each layer, while training
    ends: bool = later(False, version=4)  # the end of a text is predicted, too, but has no embedding
    # Modules between two layers, of those in charrnn.nn.modules.
    between: tuple[str, ...] = named((), lambda: tuple(modules.BETWEEN), version=4)
    labels: tuple[int, ...] = later((), version=4)  # of a text: the number of different ones in each column
    kind: Kind = named("writer", KINDS, version=5)
    # What a network that reads tells: the number of different classes in each column, or of different labels
    # of a character, or of characters (or words) of a target.
    targets: tuple[int, ...] = later((), version=5)
    # How a rewriter attends to its source; see charrnn.nn.modules.reading.decoder.
    attention: Attention = named("additive", get_args(Attention), version=5)
    # Of a reservoir, cell esn; see charrnn.nn.modules.writing.reservoir.
    reservoir: int | None = limited(None, 0, 2**63 - 1, version=6, of="esn")  # the seed that makes it
    spectral_radius: float = limited(0.9, 1e-6, 100, version=6, of="esn")
    leak: float = limited(1.0, 1e-6, 1, version=6, of="esn")  # the share of a state that is new in each step
    density: float = limited(
        0.002, 0, 1, version=6, of="esn"
    )  # of the recurrent weights: four a unit at least
    input_scale: float = limited(2.0, 1e-6, 1000, version=6, of="esn")  # the largest weight of a character
    # The labels that all texts have, of a model that was one of labels: their places among all.
    given: tuple[int, ...] = field(default=(), metadata={"version": 6, "of": "esn"})
    # Of a machine with a memory, cell ntm; see charrnn.nn.modules.writing.memory.
    memory_rows: int = limited(128, 2, 16384, version=6, of="ntm")  # N
    memory_width: int = limited(20, 1, 1024, version=6, of="ntm")  # M, numbers of a row
    # How many of its past states a writer attends to, see kernels.loops.retrospection; 0: to none.
    span: int = limited(0, 0, 4096, version=6)

    def __post_init__(self) -> None:
        for name in ("between", "labels", "targets", "given"):
            if isinstance(getattr(self, name), list):  # from a file
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(self)
        self._check_targets()
        self._check_cell()
        _require(
            not self.between or self.num_layers > 1, "num_layers", self.num_layers, "2 or more with --between"
        )
        columns = isinstance(self.labels, tuple) and len(self.labels) <= MOST_COLUMNS
        _require(columns, "labels", self.labels, f"a number for each of at most {MOST_COLUMNS} columns")
        for count in self.labels:
            _check_number("labels", count, 1, MOST_LABELS, whole=True)
        known = cells.cell_of(self.cell, self.nonlinearity)
        _require(known is not None, "nonlinearity", self.nonlinearity, f"another one of {self.cell}")

    def _check_targets(self) -> None:
        several = MOST_COLUMNS if self.kind == "classifier" else 1
        fits = isinstance(self.targets, tuple) and len(self.targets) <= several
        own = self.kind not in TELL_CHARACTERS
        wanted = f"one number, or up to {several} of a classifier" if own else "nothing"
        _require(fits and bool(self.targets) == own, "targets", self.targets, wanted)
        for count in self.targets:
            _check_number("targets", count, 1, MOST_TARGETS, whole=True)
        if self.kind != "rewriter" and self.attention != "additive":
            raise without_attention(self.kind, self.cell)
        if self.kind != "writer" and self.span:
            raise ConfigError("--span is for models that write", "leave it out, or --task")
        if self.kind != "writer" and (self.labels or self.ends):
            raise ConfigError(f"a {self.kind} is given labels or ends of texts", "leave them out")

    def _check_cell(self) -> None:
        """Settings of one cell go with no other, and some cells with few settings of others."""
        for setting in fields(self):
            value, of = getattr(self, setting.name), setting.metadata.get("of", self.cell)
            _require(
                of == self.cell or value == setting.default, setting.name, value, f"it with --cell {of} alone"
            )
        known = cells.cell_of(self.cell, self.nonlinearity)
        if known is not None and known.is_made:
            self._check_reservoir()
        elif known is not None and known.controller:
            self._check_memory()

    def _check_memory(self) -> None:
        """A memory has one layer, which is its controller."""
        if self.kind not in ("writer", "rewriter") or self.labels:
            raise ConfigError(
                f"--cell {self.cell} learns to write texts without labels, or to rewrite them",
                "give another cell",
            )
        if self.span:
            raise ConfigError(f"--cell {self.cell} has a memory, not --span", "leave one out")
        if self.attention != "additive":
            raise without_attention(self.kind, self.cell)
        for name, value in {"num_layers": 1, "norm": False, "residual": False, "between": ()}.items():
            object.__setattr__(self, name, value)

    def _check_reservoir(self) -> None:
        """A reservoir is all that stands before its read-out: what a layer has around it is left out."""
        if self.reservoir is None:
            object.__setattr__(self, "reservoir", 1)
        if self.kind != "writer":
            raise ConfigError(f"--cell {self.cell} learns to write texts", "give another cell")
        columns = isinstance(self.given, tuple) and len(self.given) <= MOST_COLUMNS
        _require(columns, "given", self.given, f"at most {MOST_COLUMNS} labels")
        for place in self.given:
            _check_number("given", place, 0, MOST_COLUMNS * MOST_LABELS, whole=True)
        if self.span:
            raise ConfigError(f"--cell {self.cell} trains its read-out alone, not --span", "leave one out")
        nothing: dict[str, Any] = {"embedding_size": 0, "norm": False, "residual": False, "dropout": 0.0}
        for name, value in (nothing | {"between": ()}).items():
            object.__setattr__(self, name, value)

    @property
    def echo(self) -> Echo:
        """What makes a reservoir what it is."""
        from charrnn.nn.modules.writing.reservoir import Echo

        assert self.reservoir is not None
        return Echo(self.spectral_radius, self.leak, self.density, self.input_scale, self.reservoir)

    @property
    def gates(self) -> int:
        """The number of gates, each H rows of the recurrent weights: LSTM 4, GRU 3, RNN 1."""
        return len(self.recurrence.gates)

    @property
    def recurrence(self) -> RecurrentCell:
        """The cell: its equations and their data."""
        found = cells.cell_of(self.cell, self.nonlinearity)
        assert found is not None
        return found

    @property
    def layers(self) -> str:
        """The cell, the number of layers and their units, as a person reads them: LSTM 2 x 256"""
        return f"{self.recurrence.label(self.cell.upper())} {self.num_layers} x {self.hidden_size}"

    @property
    def has_memory(self) -> bool:
        """Whether the network is a controller with a memory."""
        return self.recurrence.controller is not None

    @property
    def outputs(self) -> int:
        """The number of ids that are predicted: V or, with `ends`, V + 1."""
        return self.vocab_size + self.ends

    @property
    def last_width(self) -> int:
        """How many numbers the logits of a network that writes are computed from."""
        width = self.hidden_size * (self.num_layers if self.recurrence.is_made else 1)
        return width + (self.memory_width if self.has_memory else 0)

    @property
    def input_size(self) -> int:
        """Width of the first layer's input: the embedding size, or V for one-hot input."""
        return self.embedding_size or self.vocab_size

    @property
    def features(self) -> tuple[str, ...]:
        """What stands between and around the layers, for display."""
        around = (name for name in ("norm", "residual") if getattr(self, name))
        back = (f"attention to the last {self.span}",) if self.span else ()
        memory = (f"memory of {self.memory_rows} x {self.memory_width}",) if self.has_memory else ()
        return *around, *(f"{name} between" for name in self.between), *back, *memory

    def network(self) -> Sequential:
        """What stands between a character and the logits: modules that one can print."""
        from charrnn.nn.modules.networks import network

        return network(self)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape, in PyTorch's names and layout, in the file's order."""
        return self.network().shapes()

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a network is trained. Exactly one budget is set."""

    minutes: float | None = limited(None, 1e-3, 1e6, "a positive number of minutes")
    epochs: float | None = limited(None, 1e-6, 1e9, "a positive number of epochs")
    steps: int | None = limited(None, 1, 10**12)
    # Ends a budget in minutes early; None: no limit.
    most_epochs: float | None = limited(None, 1e-6, 1e9, "a positive number of epochs")
    batch_size: int = limited(32, 1, 65536)  # B
    seq_len: int = limited(64, 1, 65536)  # T, the window of truncated back-propagation through time
    # The peak, after warm-up.
    learning_rate: float = limited(6e-3, 1e-12, 1e3, "a positive number, such as 0.003", shown="lr")
    # At the end of the cosine schedule, as a fraction of the peak.
    final_learning_rate: float = limited(0.01, 0, 1)
    warmup: float = limited(0.03, 0, 1)  # as a fraction of the budget
    weight_decay: float = limited(0.03, 0, 1000)  # decoupled; not for biases and norms
    l1: float = limited(0.0, 0, 1000)  # decoupled L1 shrinkage; not for biases and norms
    clip: float = limited(1.0, 1e-9, 1e9, "a positive number, such as 1")  # largest norm of the gradient
    beta1: float = limited(0.9, 0, 0.999999, "a number below 1")
    beta2: float = limited(0.99, 0, 0.999999, "a number below 1")
    epsilon: float = limited(1e-8, 1e-20, 1, "a small positive number")
    val_fraction: float = limited(0.1, 0, 0.9)
    # The approximate number of evaluations in the budget; the file's history holds them all.
    evaluations: int = limited(12, 1, 10**4)
    # Consecutive evaluations clearly worse than the best before early stopping.
    patience: int = limited(5, 1, 10**6)
    seed: int = limited(1, 0, 2**63 - 1)
    # Of the inputs of matrix products; sums and weights are float32. auto: decided before a run
    precision: TrainPrecision = named("auto", get_args(TrainPrecision))
    # The part of the text held out for validation. None, in files of version 1 and 2: scattered where lines
    # are documents, else the end.
    val_split: ValSplit | None = named(None, get_args(ValSplit), version=3)
    val_text: str = later("", version=3)  # fingerprint of a separate validation text; "": none
    # The share of texts whose labels are hidden, so that the network also learns to do without.
    label_dropout: float = limited(0.1, 0, 1, version=4)
    # How much of what is read comes from each path of the corpus; None: as much as there is.
    shares: tuple[float, ...] | None = later(None, version=4)
    # The most megabytes of the text's counts, which stand beside the network; 0: there are none.
    counts: float = limited(0.0, 0, 10_000, version=5)
    # What stands between the fields of a record, which get a new order in each epoch; None: they do not.
    shuffle_fields: str | None = later(None, version=4)
    # The parts of a batch whose gradients are computed apart, by one process or more, and added up in order.
    shards: int = limited(1, 1, 4096, version=6)
    # Shards learn apart for so many steps, and are then brought together; 1: gradients are added up.
    sync_every: int = limited(1, 1, 10**6, version=6)
    # The largest norm of a gradient by the mean of the norms before it; 0: it may grow to `clip` at once.
    clip_ratio: float = limited(0.0, 0, 1e9, "0, or a number above 1, such as 2", version=8)
    # The share of the steps over which the weights are averaged that are evaluated and kept; 0: the last.
    average: float = limited(0.0, 0, 1, version=9)

    def __post_init__(self) -> None:
        if isinstance(self.shares, list):  # from a file
            object.__setattr__(self, "shares", tuple(self.shares))
        budgets = [b for b in (self.minutes, self.epochs, self.steps) if b is not None]
        if len(budgets) != 1:
            raise ConfigError(
                "the budget is given " + ("more than once" if budgets else "not at all"),
                "give one of --minutes, --epochs and --steps",
            )
        _check(self)
        _require(
            self.clip_ratio == 0 or self.clip_ratio > 1,
            "clip_ratio", self.clip_ratio, "0, or a number above 1, such as 2",
        )  # fmt: skip
        _require(isinstance(self.val_text, str), "val_text", self.val_text, "a text")
        _require(
            self.shares is None or (isinstance(self.shares, tuple) and len(self.shares) > 0),
            "shares", self.shares, "a number for each path",
        )  # fmt: skip
        for share in self.shares or ():
            _check_number("shares", share, 1e-9, 1e9, whole=False, wanted="positive numbers, such as 1 and 3")
        _require(
            self.shuffle_fields is None
            or (isinstance(self.shuffle_fields, str) and self.shuffle_fields != ""),
            "shuffle_fields", self.shuffle_fields, "what stands between fields, such as |",
        )  # fmt: skip


def split_of(val_split: ValSplit | None, *, lines: bool) -> ValSplit:
    """The split that a setting means; None means the only one before there was a choice."""
    return val_split or ("scattered" if lines else "end")


def canonical(val_split: ValSplit | None, *, lines: bool) -> ValSplit | None:
    """The setting as stored in files: None if that means the same, so that equal runs have equal files."""
    return None if split_of(val_split, lines=lines) == split_of(None, lines=lines) else val_split


@dataclass(frozen=True, slots=True)
class SampleConfig(Filters):
    """How characters are chosen: by the filters, and by what a text may be.

    They apply in this order: filters of logits; match, ban, only and novel; temperature; filters of
    probabilities, as they stand in the table.
    """

    match: str | None = None  # an expression that the whole text matches
    exact: bool = False  # draw from the model's distribution given match, ban and only
    ban: tuple[str, ...] = ()  # texts that never appear
    only: str | None = None  # the characters that may appear
    novel: bool | int = False  # True: no line of the training text; N: no run of N of its characters
    unique: bool = False  # no text twice; a text of a model of lines is a line
    seed: int | None = limited(None, 0, 2**63 - 1)  # None: a new one each time
    # Characters a text at the most; None: 500, or a line's end.
    length: int | None = limited(None, 0, 10**12)
    until: str | tuple[str, ...] = ""  # stop once this, or one of these, has been written; empty: off
    drop_until: bool = False  # leave it out of what is written
    # Of the weights; bfloat16: rounded, for speed.
    precision: WeightPrecision = named("float32", WEIGHT_PRECISIONS)

    def __post_init__(self) -> None:
        _check(self)
        self._check_control()
        texts = self.until if isinstance(self.until, tuple) else (self.until,)
        _require(
            all(isinstance(text, str) for text in texts), "until", self.until, "a text, or a tuple of them"
        )

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts of which the first that has been written ends a text."""
        return tuple(filter(None, self.until if isinstance(self.until, tuple) else (self.until,)))

    def _check_control(self) -> None:
        _require(self.match is None or isinstance(self.match, str), "match", self.match, "an expression")
        _require(
            isinstance(self.ban, tuple) and all(isinstance(ban, str) for ban in self.ban),
            "ban", self.ban, "a tuple of texts",
        )  # fmt: skip
        _require(self.only is None or isinstance(self.only, str), "only", self.only, "characters")
        if not isinstance(self.novel, bool):
            _check_number("novel", self.novel, SHORTEST_NOVEL, 10_000, whole=True)
        if self.match is not None and self.stops:
            raise ConfigError("--match and --until contradict each other", "give one of them")
        if self.drop_until and not self.stops:
            raise ConfigError("--drop-until leaves out what --until says", "give that, too, or neither")
        if not self.exact:
            return
        if self.match is None and not self.ban and self.only is None:
            raise ConfigError("--exact says how --match, --ban and --only draw", "give one of them, too")
        if active(self) or not self.temperature:
            raise ConfigError(
                "--exact draws from the model's own distribution, at any temperature above 0",
                "leave out the filters",
            )


@dataclass(frozen=True, slots=True)
class DynamicConfig:
    """How a network adapts to the text it is evaluated on; see charrnn.tasks.dynamic_evaluation."""

    # On held-out text of tales.txt, Python's library and Russian messages, nats a character: 1.473 -> 1.451,
    # 1.427 -> 1.192, 1.181 -> 1.005. Twice the rate is too much for a short text (1.460), half the rate or
    # longer segments adapt less (1.24 on the library), and decay matters little.
    segment: int = limited(20, 1, 65536)  # characters between two updates
    # Step size, in units of each gradient's usual magnitude.
    rate: float = limited(5e-4, 0, 1, "a small positive number, such as 0.0005")
    # Pull back to the trained weights in each update, as a share of the distance.
    decay: float = limited(2e-3, 0, 1)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """How a model looks back at what followed states like its present one; see charrnn.recall."""

    size: int = limited(MISSING, 1, MOST_REMEMBERED, shown="cache")  # characters that it remembers
    # How sharply alike states are told from others. Each of these suits every model that was measured: see
    # docs/looking-back.md.
    theta: float = limited(15.0, 0, 1000, shown="the theta of the cache")
    # The most that a prediction has of it.
    weight: float = limited(0.6, 0, 0.99, shown="the weight of the cache")
    # How many states like the present one give it half of that weight.
    doubt: float = limited(0.2, 1e-9, 1e9)

    def __post_init__(self) -> None:
        _check(self)


SHORTEST_NOVEL = 8  # characters: shorter runs are part of the language
DEFAULT_SAMPLE_LENGTH = 500  # characters of prose without --length
RANKED_CHARACTERS = 200_000  # that are read where units are ranked, unless more are asked for
PAGE_COUNTS = 16.0  # the most megabytes of counts that a page takes in, unless more are asked for
MAX_LINE_LENGTH = 10_000  # ends the line of a --lines model that never does so itself
# How far a label leads what `sample` writes. At 1, the ten most frequent languages of surnames were told less
# often in written names than in real ones, at 2 as often or more in all ten: see docs/labels.md.
WRITING_STRENGTH = 2.0
UNKNOWN_BITS = 32.0  # surprise of a character that the model has never seen, where lines are scored
