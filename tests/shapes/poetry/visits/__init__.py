"""A package at the root."""
