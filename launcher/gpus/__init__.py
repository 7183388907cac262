"""What is known of a kind of GPU by its name: its generation, and for most kinds its figures.

One table (gpus.csv) holds the kinds that estimates are made for, with their generation; older and
smaller ones, of which only the generation is known, stand in `generation`.
"""

from launcher.gpus.generation import capability, spelled
from launcher.gpus.table import GpuKind, find, kinds, known, near

__all__ = ["GpuKind", "capability", "find", "kinds", "known", "near", "spelled"]
