"""Recipes: which type for which tensor, and doing it."""
