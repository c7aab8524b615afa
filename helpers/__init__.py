"""Helpers for a course on small language models.

The levels, from the ground up. A module imports only from its own level or a lower one, and nothing in a circle; the
table that the tests hold to is in tests/test_repository.py.

    0  what can go wrong, what is passed around     errors, records, background, outputs, watchdog
    1  facts, this machine, text, pictures, scores  catalog, machine, checks, plots, templates, stopping, files, local,
                                                    rates, metrics, tasks, corpus, bpe, dates, decoding, speech, costs,
                                                    easyvqa, mini_vision, images, documents, distortions,
                                                    routing_plots, tools, steps
    2  where a model's files come from, its inside  weights, conversion, hub, anatomy, sight, seeing,
                                                    mlx_weights, ollama_models, engine_files, modelfile
       what fits where, what a benchmark found      edge, reports
       how one is made                              training, checkpoints, live, export, quantization, explorer,
                                                    mixture, routing, paging
       how one elsewhere is reached                 providers, routes, remote, faults, guests, limits, messages, slots
    3  what runs or changes a model                 backends/*, serve, gate, ocr; finetuning, distillation,
                                                    speculation
    4  to talk, to score                            answer, chat, scoring, transcription
    5  to measure, to compare, to build with        measure, compare, offload, chatbox, faq, crowd,
                                                    video, document_qa,
                                                    toolbox, examples, agent, toolscore,
                                                    agreement, trial, sweeps, qdq, qnn
    6  the whole                                    doctor, execute, evaluate, benchmark

Importing this package imports no engine; each is loaded when a model is opened.
"""
