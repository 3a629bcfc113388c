"""What the operators do to real text: `make quality`. One module a subject; each yields figures with their bars."""
