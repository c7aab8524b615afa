"""The proof, the locks, what stands in a set-up's way, and how notebooks are executed, stored and cleaned.

For `course.py`, not for learners.
"""
