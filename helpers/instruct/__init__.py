"""Notebook 03: tasks with scores, decoding, and what one builds on an instruct model."""
