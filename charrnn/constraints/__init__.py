"""What a text may be: regular expressions, automata, and the rules of a run.

It may import inference, text and checkpoint.
"""
