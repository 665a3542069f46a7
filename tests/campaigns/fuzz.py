"""Coverage-guided fuzzing of the reader of model files, where atheris is installed.

    pip install atheris
    python -m tests.campaigns.fuzz -runs=1000000 -seed=1

Its options are libFuzzer's. A corpus of whole files is made for it, unless a folder is named.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from .harness import Report, scratch


def main() -> int:
    with scratch() as folder:
        # In a child: libFuzzer ends its process itself.
        child = os.fork()
        if child == 0:
            fuzz(folder)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fuzz(folder: Path) -> None:
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install atheris", file=sys.stderr)
        os._exit(1)
    with atheris.instrument_imports(include=["charrnn"]):
        from charrnn.checkpoint import model_file
        from charrnn.errors import CharrnnError

        from .models import Reader, small_models

    seeds = Path(tempfile.mkdtemp(dir=folder))
    for number, (content, _) in enumerate(small_models(folder)):
        (seeds / str(number)).write_bytes(content)
    report = Report("coverage-guided fuzzing")
    reader = Reader(folder, report)

    def test_one_file(content: bytes) -> None:
        reader.path.write_bytes(content)
        try:
            model = model_file.load(reader.path)
        except CharrnnError as error:
            if not str(error).isprintable():
                raise RuntimeError(f"it says {str(error)!r}") from error
            return
        reader.check_model(model, "a file of the fuzzer")
        if report.broken:
            raise RuntimeError(report.broken[0])

    options = sys.argv if any(not word.startswith("-") for word in sys.argv[1:]) else [*sys.argv, str(seeds)]
    atheris.Setup(options, test_one_file)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
