"""How often the shards of ranks on several machines are brought together, by what is measured at the start.

A step of shards that learn apart teaches less than one of the whole batch. So the choice is that with which
most is learned in a second.
"""

from __future__ import annotations

from charrnn.nn.learning.speed import Pace

# By the number of steps between two exchanges, what a step is worth. 600 steps of four shards that meet every
# 50 of them bring Shakespeare to the loss of 440 where they meet in each, every 200 to that of 285; but 1.6
# times as many steps in the same minutes, every 50, came to 1.446 nats, and where shards met in each, 1.424.
WORTH = {1: 1.0, 50: 0.55, 500: 0.3}


def sync_every(pace: Pace) -> int:
    """The steps between two exchanges with which most is learned in a second."""
    return max(WORTH, key=lambda every: WORTH[every] / pace.with_exchanges(every))


def reason(pace: Pace, every: int) -> str:
    """shards meet every 50 steps, as an exchange takes 0.53 s and a step 0.21 s"""
    when = "in every step" if every == 1 else f"every {every} steps"
    step, exchange = (f"{seconds:.2g} s" for seconds in (pace.step, pace.exchange))
    return f"shards meet {when}, as an exchange takes {exchange} and a step {step}"
