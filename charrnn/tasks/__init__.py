"""What a run feeds to its network and measures.

It may import nn and text.
"""
