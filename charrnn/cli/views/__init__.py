"""What a person sees on stderr while it runs: progress, charts, curves.

They may import training's plain data; terminal.py alone imports rich.
"""
