"""Word lists and tables of the operators, each with its source and licence in the README beside."""
