"""Which videos, with which labels and split."""
