"""PulledModel -> ModelServer."""
