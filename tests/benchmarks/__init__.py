"""What `make bench` runs. It prints tables and asserts nothing."""
