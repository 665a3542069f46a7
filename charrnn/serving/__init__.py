"""A server that writes for many at a time: what is asked for, in which order it is written, and HTTP.

It may import api and what is below. Only `charrnn serve` imports it: its HTTP needs the extra charrnn[serve].
"""
