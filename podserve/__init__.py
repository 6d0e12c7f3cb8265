"""The pod and its operation: one module for each noun. Tasks and tests use them."""
