"""Notebooks 05 and 09: a model that chooses a tool, the tools, and how well it chooses."""
