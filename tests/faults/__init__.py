"""What PodServe does under faults: `nox -s faults` breaks it on purpose and counts what was lost."""
