"""`python -m charrnn` is the command `charrnn`."""

import os

try:
    from charrnn.cli import main
except KeyboardInterrupt:  # so early that nobody else catches it
    os._exit(130)

if __name__ == "__main__":
    main()
