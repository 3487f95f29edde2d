"""What is done to much takes as much longer as there is more of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ssl_video.apps import index_update
from ssl_video.apps.index_stored import Stored
from ssl_video.datasets.base import ListedVideo, VideoList


class Counted(list):
    """Paths of an index, and how often they are gone through."""

    times = 0

    def __call__(self):
        type(self).times += 1
        return iter(self)


class GoneThrough(list):
    """Entries of an index, and how often they are gone through."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


class Unions(set):
    """A set that counts the sets that are made of it and another."""

    times = 0

    def __or__(self, other):
        type(self).times += 1
        return super().__or__(other)


def test_an_update_goes_through_the_entries_a_few_times_however_much_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(Counted, "times", 0)
    monkeypatch.setattr(Unions, "times", 0)
    paths = Counted(f"/v/{n // 10}/{n}.mp4" for n in range(200))
    entries = GoneThrough(SimpleNamespace(path=path, labels=()) for path in paths)
    stored = cast(
        Stored,
        SimpleNamespace(folder=tmp_path, paths=paths, entries=entries, numbers_at=lambda places_N: places_N),
    )
    named = [*(Path(f"/v/0/{n}.mp4") for n in range(10)), *(Path(f"/v/{folder}") for folder in range(1, 10))]
    gone = index_update._to_remove(stored, named, prune=False)
    assert gone == dict(enumerate(paths[:100])) and Counted.times == 1
    more = VideoList("more", (ListedVideo("/v/19/199.mp4"),))
    left = index_update._all_again(stored, more, Unions(gone.values()))
    assert [v.path for v in left.videos] == [*paths[100:199], "/v/19/199.mp4"]
    assert Counted.times == entries.times == Unions.times == 1
