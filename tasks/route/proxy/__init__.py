"""What owns the gateway's public port, so that gateways can be swapped behind it."""
