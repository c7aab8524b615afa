"""Notebook 05: a mixture of experts counted, trained against dense twins, and looked into."""
