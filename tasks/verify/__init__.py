"""ModelServer -> VerifiedServer."""
