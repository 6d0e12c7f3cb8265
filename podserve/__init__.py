"""What the tasks and the tests share: one module for each noun of the pod."""
