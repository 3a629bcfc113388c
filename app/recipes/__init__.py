"""Recipes and operators, as the engine knows them."""
