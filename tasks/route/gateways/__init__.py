"""TensorZero gateways that run on ports of their own, each with one config for good."""
