"""What people wrote, and what is ours beside it: configs, environment files, keys."""
