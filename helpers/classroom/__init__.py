"""A class: its people and their Hub, one model server for all, exercises collected and graded. For instructors.

`python3 course.py class` is the command line of it. JupyterHub and nbgrader live in environments of their own, which
the first command that needs one makes; the modules that run there (login, gateway, start) import little of the course.
"""
