"""Evaluation: protocols, tables and pictures; what a number is comparable with."""
