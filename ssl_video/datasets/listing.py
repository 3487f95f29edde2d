"""What every data set shares: finding video files, reading lists, and looking up what a list names."""

import codecs
import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from ssl_video.datasets.base import ListedVideo, Splits, VideoList
from ssl_video.datasets.finding import videos_below
from ssl_video.datasets.many import distinct, in_both, labelled_twice, labels_of
from ssl_video.datasets.spelling import Spellings, alike, folded, why_absent
from ssl_video.errors import UserError
from ssl_video.files import as_named, shown
from ssl_video.video.info import Problem

T = TypeVar("T")

MISSING = "listed but not there"
"""The beginning of the reasons of what is absent."""
SPLIT = {
    "train": re.compile(r"train(?:ing)?([\W_\d].*)?", re.IGNORECASE | re.DOTALL),
    "test": re.compile(r"test(?:ing)?([\W_\d].*)?", re.IGNORECASE | re.DOTALL),
    "val": re.compile(r"val(?:id(?:at(?:ion|e))?)?([\W_\d].*)?", re.IGNORECASE | re.DOTALL),
}
"""Names of folders and of what a column says: the word, and behind it what begins with no letter."""


@dataclass(frozen=True)
class Line:
    """One line of a published list: ``names`` that the file may have, the likeliest first, its classes and group."""

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    group: str = ""


def split_named(name: str, plain: bool = False) -> Literal["train", "test", "val", ""]:
    """The list that a name says, "" if it says none; ``plain``: nothing may stand behind the word."""
    for split, words in SPLIT.items():
        if (match := words.fullmatch(name.strip())) and not (plain and match[1]):
            return split  # pyright: ignore[reportReturnType]
    return ""


def index_by_path(root: Path) -> dict[str, tuple[str, ...]]:
    """Path below ``root``, "/" between folders and without suffix -> whole paths. Re-encoded copies are found so."""
    start = len(str(as_named(root)).rstrip(os.sep)) + 1
    return _index(root, lambda path: path[start:].replace(os.sep, "/"))


def index_by_name(root: Path) -> dict[str, tuple[str, ...]]:
    """File name without suffix -> whole paths, for sets that name their files and not the folders these lie in."""
    return _index(root, lambda path: path.rpartition(os.sep)[2])


def _index(root: Path, name_of: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, tuple[str, ...]] = {}
    for path in videos_below(root).paths:
        name = without_suffix(name_of(path))
        index[name] = (*index.get(name, ()), path)
    return index


def without_suffix(name: str) -> str:
    """``name`` up to its last dot."""
    return name.rpartition(".")[0]


def look_up(
    name: str, listed: Iterable[Line], classes: Sequence[str], index: Mapping[str, tuple[str, ...]], root: Path
) -> VideoList:
    """The set of the listed files that ``index`` knows; those that are absent or ambiguous are its problems.

    Of several files of one name, the one with the listed suffix is meant, if it is the only one.
    """
    number = {c: i for i, c in enumerate(classes)}
    videos, problems, folder = [], [], as_named(root)
    by_spelling: dict[str, list[str]] | None = None
    for line in listed:
        found, listed_name = next(((index[s], n) for n in line.names if (s := without_suffix(n)) in index), ((), ""))
        if len(found) > 1:
            found = tuple(p for p in found if p.endswith(listed_name[listed_name.rfind(".") :])) or found
        if len(found) == 1:
            videos.append(ListedVideo(found[0], tuple(number[c] for c in line.class_names), line.group))
        else:
            if by_spelling is None:
                by_spelling = alike(index)
            others = [index[other][0] for other in by_spelling.get(folded(line.names[0]), [])]
            reason = f"{len(found)} files have this name: {found[0]} and {found[1]}; keep one" if found else MISSING
            if others and not found:
                reason = f"{MISSING}, but {others[0]} is there"
            problems.append(Problem(str(folder / line.names[0]), reason))
    return VideoList(name, tuple(videos), tuple(classes), tuple(problems))


def of_published(videos: VideoList, name: str) -> VideoList:
    """The same list, whose videos know that it was published as ``name``, SET:LIST."""
    return replace(videos, videos=tuple(replace(video, published=name) for video in videos.videos))


def official(splits: Splits, name: str, split: int) -> Splits:
    """The same lists as those that were published with the set ``name`` for that split, such as ``ucf101:test1``."""
    assert splits.test is not None
    train, test = (of_published(v, f"{name}:{p}{split}") for v, p in ((splits.train, "train"), (splits.test, "test")))
    return replace(splits, train=train, test=test)


def names_of_videos(path: Path) -> list[str]:
    """Names of videos in a list, one a line; of pairs of files ``.../NAME/00000.jpg ...`` each NAME once."""
    words = [line.split()[0] for line in lines_of(read_text(path)) if line.strip()]
    return list(dict.fromkeys(Path(word).parent.name if "/" in word else word for word in words))


def folders_of_frames(name: str, videos: Iterable[str], frames: Path, annotations: Path) -> VideoList:
    """The set of the folders of pictures ``frames/VIDEO``, each with its masks ``annotations/VIDEO``.

    Folders that are absent are problems; masks are looked for by those who need them.
    """
    found, problems = [], []
    for video in videos:
        folder = frames / video
        if folder.is_dir():
            found.append(ListedVideo(str(folder), annotation=str(annotations / video), annotated="mask_pictures"))
        else:
            problems.append(Problem(str(folder), MISSING))
    return VideoList(name, tuple(found), problems=tuple(problems))


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in the order of their indices: by value if all are whole numbers, else alphabetically.

    Alphabetical order ignores case, which is the order of UCF101's classInd.txt.
    """
    distinct = set(labels)
    if all(label.isdecimal() and len(label) < 1000 for label in distinct):  # Python takes no longer numbers
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct, key=lambda label: (label.casefold(), label)))


def first_folder(root: Path, names: Sequence[str]) -> Path:
    """The first of the folders ``root/name`` that exists, else ``root`` itself."""
    return next((root / n for n in names if (root / n).is_dir()), root)


def list_of_split(lists: Mapping[int, T], split: int, root: Path) -> T:
    """What ``lists`` holds for ``split``. Raises UserError if there is no such split."""
    if split not in lists:
        raise UserError(f"{root} has no split {split}; there are: {', '.join(map(str, sorted(lists)))}.")
    return lists[split]


def read_text(path: Path) -> str:
    """The text of a list, with its ends of lines. Bytes that are not UTF-8 are kept, since a file's name may have them.

    UTF-16, as spreadsheets write it, is read where it says so at its beginning. Raises UserError.
    """
    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-16, as its beginning says; save it as UTF-8.") from None
    return content.decode("utf-8-sig", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """The lines of a list without their ends; other characters that may end a line can be part of a name."""
    return re.split(r"\r\n|\n|\r", text)


def csv_lines(text: str, source: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not blank. With " " between fields, any number of blanks separates.

    Raises:
        UserError: if the text is not csv.
    """
    return list(csv_records(io.StringIO(text, newline=""), source, delimiter, blank_before_quotes(text, delimiter)))


def blank_before_quotes(text: str, delimiter: str) -> bool:
    """True if a cell in quotes begins with blanks, so that blanks that begin a cell are no part of it."""
    return re.search(rf'{re.escape(delimiter)} +"', text) is not None


def csv_records(
    lines: Iterable[str], source: Path, delimiter: str, skip_blanks: bool
) -> Iterator[tuple[int, list[str]]]:
    """As ``csv_lines``, of lines that come one by one; ``skip_blanks`` at the beginning of cells. Raises UserError."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=skip_blanks)
    try:
        for row in reader:
            if delimiter == " ":
                row = [field for field in row if field]
            if any(map(str.strip, row)):
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num}: this is not csv ({error}).") from None


def with_reasons(videos: VideoList) -> VideoList:
    """The list, of whose absent files the reasons say more where more is known: another spelling, a link."""
    spelled = Spellings()

    def told(problem: Problem) -> Problem:
        if problem.reason != MISSING:
            return problem
        if link := why_absent(problem.path):
            return replace(problem, reason=f"{MISSING}: {link}")
        other = spelled.of(problem.path)
        return replace(problem, reason=f"{MISSING}, but {other} is there") if other else problem

    return replace(videos, problems=tuple(map(told, videos.problems)))


def leaks(splits: Splits) -> tuple[str, ...]:
    """A sentence for each way in which the training and the test list overlap: the same files, the same groups."""
    if splits.test is None:
        return ()
    train, test = splits.train.videos, splits.test.videos
    files = in_both(train, test, "path") or in_both(train, test, "copy_of")  # in shards each list has bytes of its own
    groups = in_both(train, test, "group")
    warnings = []
    if files:
        warnings.append(
            f"{len(files)} of the {len(test)} test files of {splits.test.name} are training files too "
            f"({_examples(files)}), so test results will be too good."
        )
    if groups:
        of_test = distinct(test, "group")
        warnings.append(
            f"{len(groups)} of the {of_test} groups in {splits.test.name} are in {splits.train.name} too "
            f"({_examples(groups)}), so test results will be too good."
        )
    return tuple(warnings)


def shortcomings(splits: Splits) -> tuple[str, ...]:
    """A sentence for each way in which a list is less than it says: files that are absent, classes without videos."""
    sets = [splits.train] + ([splits.test] if splits.test else [])
    warnings = []
    for videos in sets:
        absent = {p.path for p in videos.problems if p.reason.startswith(MISSING)}
        if absent:
            total = len(videos.videos) + len(videos.problems)
            spelled = [p for p in videos.problems if p.reason.startswith(f"{MISSING}, but ")]
            of_them = f"; {len(spelled)} of them, {spelled[0].reason.partition(', ')[2]}" if spelled else ""
            warnings.append(
                f"{len(absent)} of the {total} videos that {videos.name} lists are not there ({_examples(absent)}), so "
                f"results are not those of the whole list{of_them}."
            )
        twice = labelled_twice(videos.videos)
        if twice:
            warnings.append(
                f"{len(twice)} files of {videos.name} are listed twice with different labels ({_examples(twice)}), so "
                f"no classifier can be right about them."
            )
    classes = splits.train.classes
    for same in alike(classes).values():
        if len(same) > 1:
            names = " and ".join(repr(shown(name)) for name in same)
            warnings.append(f"The classes {names} differ in spelling alone, and are taken as {len(same)} classes.")
    if splits.test is None or not splits.train.labelled or not splits.test.labelled:
        return tuple(warnings)
    for part, consequence in zip(
        sets, ("so that their test videos cannot be recognised", "so that nothing is said of them"), strict=True
    ):
        empty = set(range(len(classes))) - labels_of(part.videos)
        if empty:
            warnings.append(
                f"{len(empty)} of the {len(classes)} classes have no video in {part.name} "
                f"({_examples({classes[c] for c in empty})}), {consequence}."
            )
    return tuple(warnings)


def unofficial(what: str, name: str, counts: tuple[int, int], official: tuple[int, int]) -> tuple[str, ...]:
    """A sentence if the lists ``what`` have not the numbers of training and test videos that ``name`` has."""
    if counts == official:
        return ()
    return (
        f"{what} list {counts[0]} training and {counts[1]} test videos, where {name} has {official[0]} and "
        f"{official[1]}, so results cannot be compared with published ones.",
    )


def _examples(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
