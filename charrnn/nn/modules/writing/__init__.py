"""The modules that only networks which write have: labels of texts, and the loss of next characters.

It may import what the other modules import.
"""
