"""All that a pod keeps, in one file: a snapshot of its volumes, the archive of that, and the way back."""
