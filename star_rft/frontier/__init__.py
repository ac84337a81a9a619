"""The history and class of each problem, suspected label errors, and budgets of samples."""
