"""Helpers for a course on small language models.

The levels, from the ground up. A module imports only from its own level or a lower one:

    0  errors, records, background, outputs       what can go wrong, what is passed around
    1  catalog, machine, checks, plots, rates,    facts, this machine, exercises, pictures, intervals,
       templates, stopping, files, local          prompts, files
    2  weights, conversion, hub, anatomy          where a model's files come from, what is inside a model
    3  backends/*                                 one file per engine
    4  answer, chat, scoring                      to talk, to score
    5  measure, and the modules of one topic      to measure
    6  doctor, execute                            to look at a machine, to run the notebooks

Importing this package imports no engine; each is loaded when a model is opened.
"""
