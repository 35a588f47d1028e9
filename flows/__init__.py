"""Prefect composition and the faces of the program."""
