"""What the user meets: commands, recipes, plans, runs, artifacts and money."""

__version__ = "0.1.0"
