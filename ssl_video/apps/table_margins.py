"""The layout ``margins`` of a table: what training has gained over the same network untrained, and how sure that is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from ssl_video.apps.table import UNTRAINED, Group, Row, Table, groups_of
from ssl_video.apps.table_found import Found

NOT_MEASURED = "not measured"
HEADER = (
    "model", "architecture", "measured by", "data", "trained", "untrained", "margin", "SE over seeds", "SE over videos",
    "beyond 2 SE", "minutes", "clips", "published", "source",
)  # fmt: skip
LEGEND = (
    "Trained and untrained: mean ± standard deviation over the seeds (or splits) that the column of the data names. "
    "Margin: trained minus untrained, of the same seeds. Its standard errors are paired: over seeds, of each seed's "
    "difference; over videos, of what each test video gains, a mean over seeds. Beyond 2 SE says whether the margin is "
    "more than two of the larger one; 'no, below' that it is as far below zero, and words in brackets that only one of "
    f"the two is known. '{NOT_MEASURED}' stands where fewer seeds are finished than the table asks for. Minutes and "
    "clips are those of the pretraining of one network, its monitors left out, a tuple of frames counted as one clip. "
    "Published numbers are those of the papers, measured with their own pretraining."
)


@dataclass(frozen=True)
class Margin:
    """Trained minus untrained, with its standard errors; None for one that is not defined."""

    value: float
    over_seeds: float | None
    over_videos: float | None

    @property
    def beyond(self) -> str:
        """Whether it is more than two of the larger standard error, in words."""
        known = [error for error in (self.over_seeds, self.over_videos) if error is not None]
        if not known:
            return ""
        word = "yes" if self.value > 2 * max(known) else "no, below" if self.value < -2 * max(known) else "no"
        alone = "seeds" if self.over_videos is None else "videos"
        return word if len(known) == 2 else f"{word} ({alone} alone)"


def margin_of(trained: Sequence[Found], untrained: Sequence[Found], metric: str) -> Margin | None:
    """The margin between entries of the same splits and seeds; None if there is no such pair."""
    twins = {(f.entry.split, f.entry.seed): f for f in untrained}
    pairs = [(f, twins[key]) for f in trained if (key := (f.entry.split, f.entry.seed)) in twins]
    if not pairs:
        return None
    gains = [f.result.metrics[metric] - twin.result.metrics[metric] for f, twin in pairs]
    of_videos: dict[str, list[float]] = {}
    for f, twin in pairs:
        before = twin.of_videos.get(metric, {})
        for video, number in f.of_videos.get(metric, {}).items():
            if video in before:
                of_videos.setdefault(video, []).append(number - before[video])
    return Margin(mean(gains), standard_error(gains), standard_error([mean(gains) for gains in of_videos.values()]))


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of the values: their standard deviation over the root of their number. None of less than two."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


@dataclass(frozen=True)
class Line:
    """A metric of a row on a group of entries. ``twins``: None where the row is compared with none."""

    row: Row
    group: Group
    metric: str
    own: Sequence[Found]
    twins: Sequence[Found] | None

    @property
    def measured(self) -> bool:
        """Whether all entries that the table asks for are there."""
        return len(self.own) >= self.group.wanted

    @property
    def margin(self) -> Margin | None:
        """Over the untrained network, where that is measured too."""
        if not self.measured or self.twins is None or len(self.twins) < self.group.wanted:
            return None
        return margin_of(self.own, self.twins, self.metric)


def lines_of(table: Table, found: Sequence[Found], row: Row) -> Iterator[Line]:
    """The lines of a row: for each metric one a data set on its first split, and one over all of its splits."""
    with_twin = any(other.name == row.name + UNTRAINED for other in table.rows)
    names_of_data = [name for name in table.data if not row.only or name in row.only]
    for group in (group for name in names_of_data for group in groups_of(table, name)):
        entries = [f for f in found if group.holds(f.entry)]
        own, twins = ([f for f in entries if f.entry.row.name == n] for n in (row.name, row.name + UNTRAINED))
        for metric in row.metric.split(" / "):
            yield Line(row, group, metric, own, twins if with_twin else None)


def trained_rows(table: Table) -> list[Row]:
    """The rows without the twins that stand beside them."""
    twins = {row.name + UNTRAINED for row in table.rows}
    return [row for row in table.rows if row.name not in twins]


def margins(table: Table, found: Sequence[Found]) -> tuple[list[str], list[list[str]]]:
    """Header and lines: for each row and metric one a data set on its first split, and one over all of its splits."""
    texts = []
    for row in trained_rows(table):
        if row.model is None:
            texts.append([row.name, row.architecture, *[""] * 10, _published(row), row.source])
            continue
        for line in lines_of(table, found, row):
            head = [row.name, row.architecture, f"{row.protocol} {row.preset}, {line.metric}", line.group.name]
            texts.append([*head, *_numbers(line), _published(row), row.source])
    return list(HEADER), texts


def _numbers(line: Line) -> list[str]:
    """From the column "trained" to "clips"."""
    if not line.measured:
        return [NOT_MEASURED, *[""] * 7]
    minutes = [f.minutes for f in line.own if f.minutes is not None]
    clips = [f.clips for f in line.own if f.clips is not None]
    spent = [f"{mean(minutes):.1f}" if minutes else "", f"{mean(clips):.0f}" if clips else ""]
    trained = spread_of(line.own, line.metric)
    if line.twins is None:
        return [trained, *[""] * 5, *spent]
    margin = line.margin
    if margin is None:
        return [trained, NOT_MEASURED, *[""] * 4, *spent]
    errors = ["" if error is None else f"{error:.3f}" for error in (margin.over_seeds, margin.over_videos)]
    untrained = spread_of(line.twins, line.metric)
    return [trained, untrained, f"{margin.value:+.3f}", *errors, margin.beyond, *spent]


def mean_of(found: Sequence[Found], metric: str) -> float:
    """The mean of a metric."""
    return mean(f.result.metrics[metric] for f in found)


def spread_of(found: Sequence[Found], metric: str) -> str:
    """Mean ± standard deviation, where there is one."""
    values = [f.result.metrics[metric] for f in found]
    return f"{mean_of(found, metric):.3f}" + (f" ± {stdev(values):.3f}" if max(values) > min(values) else "")


def _published(row: Row) -> str:
    return ", ".join(f"{number:g} ({name})" for name, number in row.published.items())
