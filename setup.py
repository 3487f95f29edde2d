"""Metadata lives in setup.cfg; only the package map needs code."""

from setuptools import setup

setup(package_dir={"ssl_video.pretexts": "pretexts", "ssl_video.eval": "eval"})
