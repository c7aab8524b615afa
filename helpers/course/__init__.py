"""How notebooks are executed, stored and cleaned: for `course.py`, not for learners."""
