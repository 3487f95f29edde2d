"""``python -m ssl_video`` (what torchrun needs) is the ``ssl-video`` command."""

from ssl_video.cli import main

raise SystemExit(main())
