"""The built-in data sets, one file a kind. Their modules import torch when images are read, not before."""
