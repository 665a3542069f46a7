"""Matrix products: in float32 and bfloat16, as fast as can be or in one fixed order.

It may import the machine.
"""
