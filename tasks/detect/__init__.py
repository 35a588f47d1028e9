"""hostname -> HostFacts."""
