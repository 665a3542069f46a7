"""Who imports whom. The arrows keep the modules apart; the light ones keep start-up quick."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent

# Packages count as one module. Everybody may import `config` and `errors`.
ARROWS = {
    "errors": set(),
    "config": {"nn"},
    "__main__": {"cli"},
    "cli": {
        "api", "events", "advice", "atomic", "curves", "heat", "plotting", "sources", "spelling",
        "unwritable", "waiting", "lines", "reading",
        "checkpoint", "scoring",  # for their types alone
    },
    "api": {
        "runs", "generation", "dynamic", "evaluation", "checkpoint", "compilation", "corpus", "events",
        "model", "workers",
        "lines", "scoring", "classification", "prediction", "compression",
        "mixture", "enumeration", "matching", "filling", "offers", "ranking", "reading", "normalization",
    },
    "runs": {
        "training", "planning", "precision", "speed", "generation", "checkpoint", "compilation", "corpus",
        "locking", "sources", "unreadable", "unwritable", "vocabulary", "events", "model", "workers",
        "parameters", "validation",
    },
    "training": {
        "corpus", "model", "optimizer", "evaluation", "checkpoint", "compilation", "events",
        "container", "novelty", "outputs", "parameters", "validation", "workers",
    },
    "validation": {"corpus", "reading", "vocabulary"},
    "outputs": {"atomic", "checkpoint", "events", "parameters"},
    "locking": {"atomic", "checkpoint", "unwritable"},
    "nn": set(),
    "dynamic": {"corpus", "evaluation", "kernels", "model", "parameters", "workers"},
    "advice": set(),
    "plotting": {"atomic", "curves", "unwritable"},
    "curves": set(),
    "compilation": {"kernels", "model", "optimizer", "workers"},
    "events": {"corpus"},  # for its type alone
    "planning": set(),
    "speed": {"model", "optimizer", "workers"},
    "precision": {"kernels"},
    "enumeration": {"predictor", "mixture", "checkpoint"},
    "matching": {"automaton", "expressions"},
    "filling": {"predictor", "mixture", "checkpoint", "vocabulary"},
    "offers": {"predictor", "mixture", "checkpoint", "normalization"},
    "ranking": {"predictor", "mixture", "checkpoint"},
    "predictor": {"generation", "paths", "mixture", "checkpoint"},
    "generation": {
        "drafts", "paths", "plain", "mixture", "checkpoint", "control", "particles", "sampling", "steering",
        "vocabulary",
    },
    "drafts": {"control", "paths", "novelty", "mixture", "checkpoint", "steering"},
    "particles": {"paths", "steering"},
    "prediction": {"predictor", "generation", "mixture", "sampling", "checkpoint"},
    "classification": {"scoring", "lines"},
    "waiting": set(),
    "scoring": {
        "lines", "reading", "normalization", "model", "prefixes", "checkpoint", "precision", "vocabulary",
        "workers",
    },
    "prefixes": {"model", "kernels"},
    "lines": {"reading", "sources", "waiting", "detection"},
    "heat": set(),
    "compression": {"coding", "paths", "plain", "checkpoint", "vocabulary", "kernels", "workers"},
    "coding": set(),
    "paths": {"pace", "plain", "mixture", "sampling", "control", "steering", "kernels", "workers"},
    "control": {"automaton", "expressions", "novelty", "mixture", "checkpoint", "vocabulary", "steering"},
    "automaton": {"expressions", "steering"},
    "expressions": set(),  # runs expression_worker.py, which it does not import
    "expression_worker": set(),
    "novelty": {"steering", "vocabulary"},
    "pace": set(),
    "mixture": {"plain", "sampling", "checkpoint", "vocabulary"},
    "plain": {"checkpoint", "kernels", "nn"},  # kernels: coefficients.py, which holds numbers alone
    "evaluation": {"corpus", "model"},
    "checkpoint": {"vocabulary", "container", "novelty"},
    "container": {"atomic", "unreadable", "unwritable"},
    "atomic": set(),
    "corpus": {"vocabulary", "reading", "sources", "novelty", "memory", "normalization"},
    "memory": set(),
    "reading": {"vocabulary", "detection", "normalization"},
    "sources": {"unreadable", "detection"},
    "detection": set(),
    "normalization": set(),
    "unreadable": {"spelling"},
    "spelling": set(),
    "unwritable": set(),
    "vocabulary": set(),
    "model": {"kernels", "layers", "operands", "parameters", "workers"},
    "layers": {"kernels", "operands", "parameters", "workers"},
    "operands": {"kernels", "parameters", "workers"},
    "optimizer": {"kernels", "parameters", "workers"},
    "parameters": {"kernels"},
    "workers": {"kernels", "quota"},
    "quota": set(),
    "steering": {"sampling"},
    "sampling": set(),
    "kernels": {"sampling", "steering", "coding"},  # only the files of LOOPS
}  # fmt: skip


LOOPS = ("generate.py", "coding.py")  # kernels that compile what also runs as Python


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The part of the package that a file belongs to: `cli/train.py` -> cli."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of_any(path: Path) -> str:
    return module_of(path) if path.is_relative_to(PACKAGE) else ""


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each imported (module, name), wherever in the file it stands; name is "" for `import m`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def inner_imports(path: Path) -> set[str]:
    """The parts of charrnn that a file imports."""
    found = set()
    for module, name in imports(path):
        parts = [*module.split("."), name]
        if parts[0] == "charrnn" and parts[1]:  # plain `import charrnn` has the version only
            found.add(parts[1])
    return found - {module_of(path), "config", "errors"}


def outer_imports(path: Path) -> set[str]:
    return {module.split(".")[0] for module, _ in imports(path)} - {"charrnn"}


def importers(package: str) -> set[str]:
    found = (path for path in sources() if package in outer_imports(path))
    return {path.relative_to(PACKAGE).as_posix() for path in found}


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_along_its_arrows(path: Path) -> None:
    module = module_of(path)
    if module == "__init__":
        return  # public names, imported when first used
    assert module in ARROWS, f"{path.name} has no place in the architecture yet"
    assert inner_imports(path) <= ARROWS[module]


def test_every_arrow_is_used() -> None:
    used: dict[str, set[str]] = {module: set() for module in ARROWS}
    for path in sources():
        if module_of(path) != "__init__":
            used[module_of(path)] |= inner_imports(path)
    unused = {module: targets - used[module] for module, targets in ARROWS.items()}
    assert not {module: targets for module, targets in unused.items() if targets}


def test_the_arrows_have_no_circle() -> None:
    left = {module: set(targets) for module, targets in ARROWS.items()}
    while leaves := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in leaves:
            del left[module]
    assert not left, f"a circle among {sorted(left)}"


def test_files_of_a_package_have_no_circle() -> None:
    for package in ("cli", "kernels"):
        names = {path.stem: path for path in (PACKAGE / package).glob("*.py")}
        left = {}
        for name, path in names.items():
            wanted = set()
            for module, imported in imports(path):
                parts = [*module.split("."), imported]
                if parts[:2] == ["charrnn", package]:
                    wanted.add(parts[2])
            left[name] = wanted & names.keys()
        while leaves := [name for name, targets in left.items() if not targets & left.keys()]:
            for name in leaves:
                del left[name]
        assert not left, f"a circle in {package} among {sorted(left)}"


def test_rich_is_imported_by_the_terminal_alone() -> None:
    assert importers("rich") == {"cli/terminal.py"}


def test_prompt_toolkit_is_imported_by_the_interaction_alone() -> None:
    assert importers("prompt_toolkit") == {"cli/interaction.py"}


def test_typer_is_imported_by_the_command_line_alone() -> None:
    assert {name.split("/")[0] for name in importers("typer")} == {"cli"}


def test_numba_is_imported_by_kernels_alone() -> None:
    found = importers("numba") | importers("llvmlite")
    assert {name.split("/")[0] for name in found} == {"kernels"}


def test_safetensors_is_imported_by_the_container_alone() -> None:
    assert importers("safetensors") == {"container.py"}


def test_the_detector_of_encodings_is_imported_only_when_bytes_are_no_text() -> None:
    assert importers("chardet") == {"detection.py"}
    tree = ast.parse((PACKAGE / "detection.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "chardet"]


def test_matplotlib_is_imported_only_to_draw_a_png() -> None:
    assert importers("matplotlib") == {"plotting.py"}
    tree = ast.parse((PACKAGE / "plotting.py").read_text(encoding="utf-8"))
    assert "matplotlib" not in ast.unparse(
        [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    )


def test_the_library_of_expressions_is_imported_by_its_worker_alone() -> None:
    assert importers("outlines_core") == {"expression_worker.py"}


def test_kernels_know_only_arrays_and_the_compiler() -> None:
    import sys

    for path in (PACKAGE / "kernels").glob("*.py"):
        foreign = outer_imports(path) - sys.stdlib_module_names
        assert foreign <= {"numpy", "numba", "llvmlite"}, path.name
        if path.name not in LOOPS:
            assert inner_imports(path) == set(), path.name


def test_private_kernels_are_called_from_kernels_alone() -> None:
    """They have no wrapper for Python: a call from there would crash the process."""
    for path in [*sources(), *Path(__file__).parent.glob("*.py")]:
        if module_of_any(path) == "kernels":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {name for module, name in imports(path) if module == "charrnn.kernels"} | {"kernels"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                assert not (private and node.value.id in modules), f"{path.name}: {node.attr}"
        for module, name in imports(path):
            assert not (module.startswith("charrnn.kernels.") and name.startswith("_")), path.name


def test_the_light_modules_import_no_numpy() -> None:
    names = ("__init__", "__main__", "errors", "config", "advice", "curves", "plotting")
    light = [PACKAGE / f"{name}.py" for name in names]
    for path in [*light, *(PACKAGE / "cli").glob("*.py"), *(PACKAGE / "nn").rglob("*.py")]:
        assert "numpy" not in outer_imports(path), path.name


def test_the_command_line_takes_no_more_than_a_type_from_the_checkpoint() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        taken = {name for module, name in imports(path) if module == "charrnn.checkpoint"}
        assert taken <= {"Checkpoint"}, path.name


def test_every_command_that_reads_lines_flushes_before_it_waits_for_more() -> None:
    reading = {
        node.name
        for node in ast.walk(ast.parse((PACKAGE / "api.py").read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and "before_waiting" in [a.arg for a in node.args.kwonlyargs]
    }
    assert reading == {"score_lines", "surprises", "classify"}
    used = set()
    for path in (PACKAGE / "cli").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if ast.unparse(call.func.value) == "api" and call.func.attr in reading:
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert given.get("before_waiting") == "output.flush", f"{path.name}: {call.func.attr}"
                used.add(call.func.attr)
    assert used == reading


def test_only_the_command_line_prints() -> None:
    for path in sources():
        calls = [n.func for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        printing = [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]
        assert not printing or module_of(path) == "cli", path.name
