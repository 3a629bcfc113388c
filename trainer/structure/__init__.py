"""The model: opening or making one, what its blocks are like, ALiBi models of our own, LoRA, attention."""
