"""`python -m charrnn` is the command `charrnn`."""

import os

try:
    from charrnn.cli import main
except KeyboardInterrupt:  # before the command line's own handlers are installed
    os._exit(130)

if __name__ == "__main__":
    main()
