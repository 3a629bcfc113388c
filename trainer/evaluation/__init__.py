"""How good a model is: loss on held-out replies, and replies of its own compared with the written ones."""
