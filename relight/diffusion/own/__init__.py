"""Priors of our own: networks, what they learn from, their training, their weights."""
