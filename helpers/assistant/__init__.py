"""Notebook 09: an assistant that answers from a folder of documents, here on this machine."""
