"""Where weights come from and what they become: sources, files, conversion, templates, a learner's own folder.

`models.embed(texts)` turns texts into vectors.
"""

from helpers.models.embeddings import embed as embed
