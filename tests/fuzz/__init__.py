"""Fuzzing of the readers: valid files of every format are changed at random and opened as a user would.

``python -m tests.fuzz FORMAT COUNT`` from the root of the repository; see CONTRIBUTING.md.
"""
