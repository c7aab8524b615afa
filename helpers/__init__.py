"""Helpers for a course on small language models.

The levels, from the ground up; a module imports only from lower ones:

    0  errors, records                                      what can go wrong, what is passed around
    1  catalog, machine, checks, plots, templates, files    facts, this machine, exercises, pictures, text, disk
    2  weights, conversion, anatomy                         where a model's files come from, what is inside
    3  backends/*                                           one file per engine
    4  chat, scoring                                        to talk, to score
    5  measure                                              to measure
    6  doctor, execute                                      to look at a machine, to run the notebooks

Importing this package imports no engine; each is loaded when a model is opened.
"""
