"""Helpers for a course on small language models.

The levels, from the ground up. A module imports only from its own level or a lower one, and nothing in a circle; the
table that the tests hold to is in tests/test_repository.py.

    0  what can go wrong, what is passed around     errors, records, background, outputs, watchdog
    1  facts, this machine, text, pictures, scores  catalog, machine, checks, plots, templates, stopping, files, local,
                                                    rates, metrics, tasks, corpus, bpe, dates, decoding, speech, costs
    2  where a model's files come from              weights, conversion, hub, anatomy
       how one is made                              training, checkpoints, live, export, quantization, explorer
       how one elsewhere is reached                 providers, routes, remote, faults, guests, limits, messages, slots
    3  what runs or changes a model                 backends/*, serve, gate; finetuning, distillation
    4  to talk, to score                            answer, chat, scoring
    5  to measure, to compare, to build with        measure, compare, offload, chatbox, faq, crowd
    6  the whole                                    doctor, execute, evaluate

Importing this package imports no engine; each is loaded when a model is opened.
"""
