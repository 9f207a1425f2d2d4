"""Diffusion: priors of our own that come with the package, score distillation, few-step samplers, public weights."""
