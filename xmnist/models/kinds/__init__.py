"""Kinds of models that are trained. Room `training` has an objective for each."""
