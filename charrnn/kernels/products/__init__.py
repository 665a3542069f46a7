"""Matrix products in float32 and bfloat16: as fast as possible, or with a fixed order of additions.

It may import the machine.
"""
