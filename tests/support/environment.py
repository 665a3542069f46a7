"""The environment in which everything is tried: what a computer needs, and nothing that changes results.

`python -I tests/support/environment.py COMMAND ...` runs a command in it; so does the Makefile.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What is kept. All else goes: PYTHON*, NUMBA_*, CHARRNN_*, OMP_NUM_THREADS, COLUMNS, NO_COLOR, MAKEFLAGS ...
NAMES = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "LANGUAGE", "TMPDIR", "TEMP", "TMP", "CI",
    "TERM",  # of the terminal that there is; see `environment`
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",  # where OpenBLAS misjudges a virtual machine
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",  # where Python itself may be
    "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "WINDIR", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
    # pip's:
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
}  # fmt: skip
PREFIXES = (
    "LC_", "PIP_", "SSL_", "PYENV_",
    "HYDRA_", "MPIR_CVAR_", "OMPI_ALLOW_", "OMPI_MCA_",  # how mpirun starts ranks on this machine
)  # fmt: skip
# Whoever runs pytest by hand may have the kernels run as plain Python, in the tests and in what they start.
CHOSEN = ("NUMBA_DISABLE_JIT",)


def scrubbed(variables):
    """Those of the variables that are kept."""
    return {
        name: value
        for name, value in variables.items()
        if name.upper() in NAMES or name.upper().startswith(PREFIXES)
    }


def environment(**variables):
    """What a process of the tests starts with: the charrnn of this folder, no terminal, and `variables`."""
    kept = scrubbed(os.environ)
    kept.pop("TERM", None)
    chosen = {name: os.environ[name] for name in CHOSEN if name in os.environ}
    return {**kept, **chosen, "PYTHONPATH": ROOT, **variables}


def scrub():
    """Make it that of this process, and so of all that it starts. pytest's own variables stay."""
    for name in os.environ.keys() - environment().keys():
        if not name.startswith("PYTEST_"):
            del os.environ[name]
    os.environ.update(environment())


if __name__ == "__main__":
    os.execvpe(sys.argv[1], sys.argv[1:], scrubbed(os.environ))
