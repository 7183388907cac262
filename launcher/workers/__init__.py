"""Scripts that a job carries with it; each stands alone and runs in axolotl's environment."""
