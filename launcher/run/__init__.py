"""A run, from a plan to verified results: launch, follow, pull, release."""
