"""Encoders: whole video -> vector, not differentiable, fitted to a training list; one family a file."""
