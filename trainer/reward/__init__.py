"""Reward models: pairs of replies, the model that learned them, its accuracy, its scores."""
