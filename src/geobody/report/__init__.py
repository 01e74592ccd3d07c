"""Figures and tables that people look at before they read."""
