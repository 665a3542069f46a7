"""The tasks that networks learn: batches, loss, evaluation. Training knows them by their interface alone.

It may import counts, generation, inference, nn, ranks, text, checkpoint and events.
"""
