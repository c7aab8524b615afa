"""Notebook 02: how a small model is made, from text to a quantized file."""
