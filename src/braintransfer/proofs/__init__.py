"""Proofs of the study's own tools: each module serves one notebook `prove_<name>`."""
