"""HostFacts -> Plan. Pure."""
