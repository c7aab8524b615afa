"""Notebook 04: a miniature that sees, what it looks at, documents, OCR and video."""
