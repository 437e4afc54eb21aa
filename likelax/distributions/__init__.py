"""Distributions: each a frozen pytree with a pure `log_prob`."""
