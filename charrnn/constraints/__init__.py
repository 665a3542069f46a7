"""Constraints on generated texts: regular expressions, automata, and the rules of a run.

It may import inference, text and checkpoint.
"""
