"""Plan -> PulledModel."""
