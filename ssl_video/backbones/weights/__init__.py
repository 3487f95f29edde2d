"""What networks start from: files of weights, how others name them, and entries of published ones, in files here."""

from ssl_video.backbones.weights.entries import (
    WEIGHTS,
    Entry,
    Found,
    found,
    own_entry,
    seen_by,
    start_from,
    whole_source,
)
from ssl_video.backbones.weights.files import (
    LoadReport,
    check_layout,
    check_numbers,
    current_names,
    load_into,
    load_weights,
    noted_as_seen,
    read_state_dict,
    seen_in,
)
from ssl_video.backbones.weights.layouts import Layout
from ssl_video.backbones.weights.names import Names, Published, own_names

__all__ = [
    "WEIGHTS",
    "Entry",
    "Found",
    "Layout",
    "LoadReport",
    "Names",
    "Published",
    "check_layout",
    "check_numbers",
    "current_names",
    "found",
    "load_into",
    "load_weights",
    "noted_as_seen",
    "own_entry",
    "own_names",
    "read_state_dict",
    "seen_by",
    "seen_in",
    "start_from",
    "whole_source",
]
