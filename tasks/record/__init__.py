"""Route -> RunRecord."""
