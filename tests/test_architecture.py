"""Who imports whom. The arrows keep the modules apart; the light ones keep start-up quick."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent

# By room: what its modules import, wherever in the file. All may import `config`, `errors`, `labels`,
# `vocabulary`, the cells and the filters, which are data; rooms inside a room count as parts of it.
EVERYBODYS = {"config", "errors", "labels", "vocabulary", "cells", "filters"}
ARROWS = {
    "errors": set(),
    "cells": set(),
    "filters": set(),
    "config": {"modules"},
    "vocabulary": set(),
    "labels": {"system"},
    "events": {"text"},
    "system": set(),
    "ranks": {"system"},
    "kernels": set(),
    "modules": {"kernels"},
    "text": {"ranks", "system"},
    "counts": {"kernels", "ranks", "system", "text"},
    "recall": {"kernels"},
    "nn": {"kernels", "modules", "ranks", "system"},
    "checkpoint": {"counts", "system", "text"},
    "inference": {"checkpoint", "counts", "kernels", "modules", "nn", "ranks", "recall", "system", "text"},
    "constraints": {"checkpoint", "inference", "text"},
    "generation": {"checkpoint", "constraints", "counts", "inference", "text"},
    "search": {"checkpoint", "counts", "generation", "inference", "nn", "text"},
    "scoring": {"checkpoint", "counts", "inference", "kernels", "nn", "system", "text"},
    "pages": {"checkpoint", "inference", "modules"},
    "exports": {"checkpoint", "modules"},
    "tasks": {
        "checkpoint", "counts", "events", "generation", "inference", "kernels", "modules", "nn", "ranks",
        "text",
    },
    "diagnosis": {"checkpoint", "modules", "nn", "text"},
    "neurons": {"checkpoint", "constraints", "inference", "modules", "nn", "text"},
    "training": {"checkpoint", "counts", "events", "modules", "nn", "ranks", "system", "tasks"},
    "api": {
        "checkpoint", "constraints", "counts", "diagnosis", "events", "exports", "generation",
        "inference", "neurons", "nn", "pages", "ranks", "scoring", "search", "system", "tasks", "text",
        "training",
    },
    "serving": {"api", "checkpoint", "generation", "inference", "search", "text"},
    "cli": {
        "api", "checkpoint", "diagnosis", "events", "neurons", "ranks", "scoring", "serving", "system",
        "tasks", "text", "training",
    },
    "__main__": {"cli"},
}  # fmt: skip
# The rooms inside kernels, and what of one another each imports; "" are the modules beside them.
KERNELS = {
    "machine": set(),
    "products": {"machine"},
    "": {"machine", "products"},
    "loops": {"machine", "products", ""},
}
# Loops whose parts run as plain Python, too; so they live beside these, and not in kernels.
COMPILED = {"inference/filter_code.py", "inference/writing_loop.py", "scoring/rans_loop.py"}
# What of nn is below config, which describes networks by it: by the name of the room that it counts as.
BELOW_CONFIG = {
    "cell": "cells", "cells": "cells", "modules": "modules", "operands": "modules", "parameters": "modules",
    "window": "modules",
}  # fmt: skip
MOST_AT_THE_TOP, MOST_IN_A_ROOM = 8, 12
MOST_PARAMETERS = 8


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def within(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(parts: tuple[str, ...]) -> str:
    """The room of charrnn.<parts>, by which the arrows go."""
    inner = parts[1] if len(parts) > 1 else ""
    if parts[0] == "nn":
        return BELOW_CONFIG.get(inner, "nn")
    return "filters" if parts[:2] == ("inference", "filters") else parts[0]


def room(path: Path) -> str:
    return room_of(path.relative_to(PACKAGE).with_suffix("").parts)


@functools.cache
def imports(path: Path, *, for_types: bool = True) -> list[tuple[str, str]]:
    """Each imported (module, name), wherever in the file it stands; name is "" for `import m`.

    `for_types`: also what is imported for annotations alone.
    """
    found = []
    left_out: set[ast.AST] = set()
    for node in nodes(path) if not for_types else []:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            left_out |= {inner for part in node.body for inner in ast.walk(part)}
    for node in nodes(path):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            found += [(node.module, alias.name) for alias in node.names]
    return found


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All that a file consists of."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def inner_imports(path: Path, *, for_types: bool = True) -> Iterator[tuple[str, ...]]:
    """What of charrnn a file imports: ("nn", "network", "Model")."""
    for module, name in imports(path, for_types=for_types):
        parts = (*module.split("."), name)
        if parts[0] == "charrnn" and parts[1]:  # plain `import charrnn` has the version only
            yield parts[1:]


def rooms_imported(path: Path) -> set[str]:
    return {room_of(parts) for parts in inner_imports(path)} - {room(path)}


def without_leaves(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows of a circle, and what leads there; empty if there is none."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while leaves := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in leaves:
            del left[name]
    return left


def outer_imports(path: Path) -> set[str]:
    return {module.split(".")[0] for module, _ in imports(path)} - {"charrnn"}


def importers(package: str) -> set[str]:
    found = (path for path in sources() if package in outer_imports(path))
    return {path.relative_to(PACKAGE).as_posix() for path in found}


@pytest.mark.parametrize("path", sources(), ids=within)
def test_a_module_imports_only_along_the_arrows_of_its_room(path: Path) -> None:
    if within(path) == "__init__.py":
        return  # public names, imported when first used
    assert room(path) in ARROWS, f"{within(path)} has no room in the house yet"
    assert rooms_imported(path) <= ARROWS[room(path)] | EVERYBODYS


def test_every_arrow_is_used() -> None:
    used: dict[str, set[str]] = {name: set() for name in ARROWS}
    for path in sources():
        if within(path) != "__init__.py":
            used[room(path)] |= rooms_imported(path)
    assert {name: targets for name, targets in ARROWS.items() if targets - used[name]} == {}


def test_the_arrows_have_no_circle() -> None:
    data = {"errors": set(), "cells": set(), "filters": set()}
    everybodys = {"vocabulary": {"config", "errors"}, "config": {"cells", "errors", "filters"}, **data}
    assert without_leaves({**ARROWS, **everybodys}) == {}


def test_training_knows_tasks_and_networks_by_their_interfaces_alone() -> None:
    """Nor does it take a class that learns, or that reads, from where the plan finds the speed of one."""
    used = {parts for path in (PACKAGE / "training").rglob("*.py") for parts in inner_imports(path)}
    assert {parts[1] for parts in used if parts[0] == "tasks"} == {"task"}
    learning = {parts[2:] for parts in used if parts[:2] == ("nn", "learning")}
    assert {names for names in learning if names[0] not in ("compilation",)} == {
        ("optimizer", "learning_rate"),
        ("speed", "Pace"),
        ("speed", "characters_per_second"),
        ("speed", "pace"),
    }
    modules = {parts[1] for parts in used if parts[0] == "nn"}
    assert modules == {"learning", "parameters", "precision", "workers"}


def test_no_modules_import_one_another_in_a_circle() -> None:
    names = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in sources()}
    arrows = {}
    for name, path in names.items():
        if name != ("__init__",):
            imported = inner_imports(path, for_types=False)
            wanted = {parts if parts in names else parts[:-1] for parts in imported}
            arrows[".".join(name)] = {".".join(parts) for parts in wanted if parts in names}
    assert without_leaves(arrows) == {}


def test_kernels_import_only_along_the_arrows_of_their_rooms() -> None:
    used: dict[str, set[str]] = {name: set() for name in KERNELS}
    for path in (PACKAGE / "kernels").rglob("*.py"):
        parts = path.relative_to(PACKAGE / "kernels").parts
        inner = parts[0] if len(parts) > 1 else ""
        for target in inner_imports(path):
            used[inner].add(target[1] if target[1] in KERNELS else "")
    for name, targets in KERNELS.items():
        assert used[name] <= targets | {name}, name


def test_a_newcomer_sees_all_of_a_room() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP
    for folder in {path.parent for path in sources()} - {PACKAGE}:
        shown = {path.relative_to(folder).parts[0] for path in folder.rglob("*.py")} - {"__init__.py"}
        assert len(shown) <= MOST_IN_A_ROOM, within(folder)


def test_each_room_says_what_lives_there_and_what_it_imports() -> None:
    for folder in {path.parent for path in sources()}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert text, within(folder)
        if folder != PACKAGE:
            assert "import" in text, within(folder)


def test_rich_is_imported_by_the_terminal_alone() -> None:
    assert importers("rich") == {"cli/views/terminal.py"}


def test_prompt_toolkit_is_imported_by_the_interaction_alone() -> None:
    assert importers("prompt_toolkit") == {"cli/interaction.py"}


def test_typer_is_imported_by_the_command_line_alone() -> None:
    assert {name.split("/")[0] for name in importers("typer")} == {"cli"}


def test_numba_is_imported_by_kernels_alone() -> None:
    found = importers("numba") | importers("llvmlite")
    assert {name for name in found if not name.startswith("kernels/")} == COMPILED


def test_safetensors_is_imported_by_the_container_alone() -> None:
    assert importers("safetensors") == {"checkpoint/container.py"}


def test_the_detector_of_encodings_is_imported_only_when_bytes_are_no_text() -> None:
    assert importers("chardet") == {"text/files/detection.py"}
    tree = ast.parse((PACKAGE / "text" / "files" / "detection.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "chardet"]


def test_matplotlib_is_imported_only_to_draw_a_png() -> None:
    assert importers("matplotlib") == {"training/plotting.py"}
    tree = ast.parse((PACKAGE / "training" / "plotting.py").read_text(encoding="utf-8"))
    assert "matplotlib" not in ast.unparse(
        [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    )


def test_mpi_is_imported_only_where_a_launcher_has_started_several_processes() -> None:
    assert importers("mpi4py") == {"ranks/heart.py", "ranks/mpi.py"}
    for path in sources():
        at_the_top = [n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ImportFrom)]
        assert not [n for n in at_the_top if n.module in ("mpi4py", "charrnn.ranks.mpi")], within(path)


def test_the_server_is_imported_by_its_command_alone_and_only_when_it_runs() -> None:
    using = {within(path) for path in sources() if "serving" in rooms_imported(path)}
    assert using == {"cli/commands/sharing/serve.py"}
    tree = ast.parse((PACKAGE / "cli" / "commands" / "sharing" / "serve.py").read_text(encoding="utf-8"))
    assert not [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and "serving" in str(node.module)
    ]


def test_http_is_known_to_the_application_and_its_run_alone() -> None:
    assert importers("starlette") | importers("sse_starlette") == {"serving/application.py"}
    assert importers("uvicorn") == {"serving/listening.py"}


def test_the_library_of_expressions_is_imported_by_its_worker_alone() -> None:
    assert importers("outlines_core") == {"constraints/expression_worker.py"}


def test_onnx_is_imported_by_its_graph_alone() -> None:
    assert importers("onnx") == {"exports/onnx_graph.py"}


def test_kernels_know_only_arrays_and_the_compiler() -> None:
    import sys

    for path in (PACKAGE / "kernels").rglob("*.py"):
        foreign = outer_imports(path) - sys.stdlib_module_names
        assert foreign <= {"numpy", "numba", "llvmlite"}, path.name


def test_private_kernels_are_called_from_kernels_alone() -> None:
    """They have no wrapper for Python: a call from there would crash the process."""
    for path in [*sources(), *Path(__file__).parent.glob("*.py")]:
        if path.is_relative_to(PACKAGE / "kernels") or "kernels" not in path.read_text("utf-8"):
            continue
        modules = {name for module, name in imports(path) if f"{module}.".startswith("charrnn.kernels.")} | {
            "kernels"
        }
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                assert not (private and node.value.id in modules), f"{path.name}: {node.attr}"
        for module, name in imports(path):
            assert not (module.startswith("charrnn.kernels.") and name.startswith("_")), path.name


def test_the_light_modules_import_no_numpy() -> None:
    names = (
        "__init__", "__main__", "errors", "config", "nn/cell", "nn/__init__",
        "inference/__init__", "inference/filters",
        "diagnosis/__init__", "diagnosis/findings", "diagnosis/losses", "diagnosis/advice",
        "ranks/__init__", "ranks/launch", "ranks/shepherd",
        "training/__init__", "training/curves", "training/plotting",
    )  # fmt: skip
    light = [PACKAGE / f"{name}.py" for name in names]
    for path in [*light, *(PACKAGE / "cli").rglob("*.py"), *(PACKAGE / "nn/cells").glob("*.py")]:
        assert "numpy" not in outer_imports(path), path.name


def test_the_command_line_takes_no_more_than_a_type_from_the_checkpoint() -> None:
    for path in (PACKAGE / "cli").rglob("*.py"):
        taken = {name for module, name in imports(path) if module == "charrnn.checkpoint.model_file"}
        assert taken <= {"Checkpoint"}, path.name


def test_every_command_that_reads_lines_flushes_before_it_waits_for_more() -> None:
    reading = {
        node.name
        for path in (PACKAGE / "api").glob("*.py")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and "before_waiting" in [a.arg for a in node.args.kwonlyargs]
    }
    assert reading == {
        "score_lines",
        "surprises",
        "classify",
        "classified",
        "restored",
        "tagged",
        "rewritten",
        "watch_unit",
    }
    used = set()
    for path in (PACKAGE / "cli").rglob("*.py"):
        for call in nodes(path):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if ast.unparse(call.func.value) == "api" and call.func.attr in reading:
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert given.get("before_waiting") == "output.flush", f"{path.name}: {call.func.attr}"
                used.add(call.func.attr)
    assert used == reading


def test_no_test_module_imports_another() -> None:
    """What several of them need lives in tests/support/; beside them are the reference and what records."""
    folder = Path(__file__).parent
    beside = {path.stem for path in folder.glob("*.py")}
    for path in [*folder.glob("*.py"), *folder.glob("support/*.py")]:
        taken = {part for module, name in imports(path) for part in (*module.split("."), name)} & beside
        assert taken <= {"naive", "record_classifying", "record_readme", "record_torch_pages"}, (
            f"{path.name}: {taken}"
        )


def test_only_the_command_line_prints() -> None:
    for path in sources():
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        printing = [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]
        assert not printing or room(path) == "cli", path.name


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    """Their names, without that of the object or the class itself."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = [parameter.arg for parameter in named if parameter is not None]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def long_functions(path: Path) -> set[str]:
    """The functions of a file that take more than MOST_PARAMETERS: module.function."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    found = [node for node in nodes(path) if isinstance(node, functions)]
    module = within(path.with_suffix("")).replace("/", ".")
    long = [node for node in found if len(parameters(node)) > MOST_PARAMETERS]
    return {f"{module}.{getattr(node, 'name', 'lambda')}" for node in long}


def test_no_function_takes_more_than_eight_parameters() -> None:
    """But commands have a parameter for each of their options."""
    own = [path for path in sources() if not path.is_relative_to(PACKAGE / "cli" / "commands")]
    assert {name for path in own for name in long_functions(path)} == set()
