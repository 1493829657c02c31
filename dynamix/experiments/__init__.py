"""Runs and the tables made of them: each run a folder keyed by the hash of its config."""
