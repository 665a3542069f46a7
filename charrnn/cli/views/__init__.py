"""Views on stderr while a command runs: progress, charts, curves.

They may import training's plain data; only terminal.py imports rich.
"""
