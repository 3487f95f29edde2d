"""Evaluations: backbone -> numbers, one protocol a file."""

if __name__ != "ssl_video.eval":
    raise ImportError("import this package as ssl_video.eval: a second copy would have a registry of its own")
