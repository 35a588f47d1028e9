"""What the gateway serves, rendered: plan and verified servers → the text of a config. Pure."""
