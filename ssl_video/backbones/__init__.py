"""Clip to feature map, one family a file."""
