"""Long campaigns that try to break what docs/reliability.md promises, each one command:

    python -m tests.campaigns.crashes --kills 1000 --seed 1

Each prints what it found and ends with a row of the table in docs/reliability.md; its exit code is 1 when a
promise was broken. tests/test_campaigns.py runs a short slice of each. Whatever the environment they are
started in, all that they try runs in a scrubbed one.
"""

from ..support.environment import scrub

scrub()
