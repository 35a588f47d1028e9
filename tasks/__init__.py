"""The stages of a provisioning run, as plain typed functions."""
