"""Files to frames and back: probing, reading, writing, caching, augmenting."""
