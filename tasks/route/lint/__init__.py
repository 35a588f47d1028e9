"""What TensorZero loads without a word and then breaks."""
