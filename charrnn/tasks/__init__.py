"""What a run feeds to its network and measures: the interface that training sees, and what it stands for.

It may import generation, nn, text, checkpoint and events.
"""
