"""Plain float64 references of the models, one module each, and their tiny checkpoints."""
