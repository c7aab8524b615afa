"""Notebook 07: every engine in one table, the knobs that change its speed, and the devices that it may run on."""
