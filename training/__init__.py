"""Recipes that make the data and the models which si_neuroml ships: no part of the installed package."""
