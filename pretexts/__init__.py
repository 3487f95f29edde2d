"""Pretext tasks: clips -> loss, one paper a file."""

if __name__ != "ssl_video.pretexts":
    raise ImportError("import this package as ssl_video.pretexts: a second copy would have a registry of its own")
