"""Notebook 08: what a model gains by writing more tokens before it answers, and how that is trained."""
