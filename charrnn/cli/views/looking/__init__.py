"""Views of what stands inside a network: gradients and gates, where heads look, what units do.

They may import the other views, and the findings.
"""
