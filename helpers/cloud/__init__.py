"""Notebook 06: what a model costs elsewhere and here, and what a crowd of users does to it."""
