"""VerifiedServer -> Route."""
