"""Reading TFRecord files against a writer made from the format's description, whole, damaged and hostile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_video.datasets.tfrecord import RECORD_LIMIT, TFRecordError, crc32c, parse_example, read_records
from tests import tfrecords as made

RECORDS = (b"first", b"", bytes(range(256)) * 3, b"last")
EXAMPLE = made.example(
    {
        "id": made.of_bytes(b"abcd"),
        "labels": made.of_integers([0, 300, -1, 2**63 - 1]),
        "unpacked": made.of_integers([7, 128], packed=False),
        "mean": made.of_floats([0.5, -2.0, 1e30]),
        "none": b"",
    }
)
SEQUENCE = made.sequence_example(
    {"id": made.of_bytes(b"x"), "labels": made.of_integers([3])},
    {"rgb": [made.of_bytes(b"\x00\xff"), made.of_bytes(b"\x01\x02")], "audio": []},
)


def reasons(path) -> list[str]:
    return [str(r) for r in read_records(path) if isinstance(r, TFRecordError)]


def test_the_checksum_is_the_published_one():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@given(st.binary(max_size=700))
def test_the_checksum_is_that_of_the_bitwise_definition(data):
    assert crc32c(data) == made.crc32c(data)


def test_the_checksum_of_many_rows_is_that_of_the_bitwise_definition():
    data = np.random.default_rng(0).integers(0, 256, 10_007, np.uint8).tobytes()
    assert crc32c(data) == made.crc32c(data)


def test_records_are_read_in_their_order(tmp_path):
    assert tuple(read_records(made.write(tmp_path / "r", RECORDS))) == RECORDS


def test_a_file_that_is_absent_is_a_reason(tmp_path):
    assert reasons(tmp_path / "gone") == ["cannot be read: No such file or directory"]


def test_a_file_that_ends_anywhere_gives_the_records_before_and_a_reason(tmp_path):
    records = (b"first", b"", b"more", b"last")
    whole = made.write(tmp_path / "r", records).read_bytes()
    ends = np.cumsum([16 + len(r) for r in records]).tolist()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        read = list(read_records(tmp_path / "cut"))
        complete = sum(end <= length for end in ends)
        assert tuple(read[:complete]) == records[:complete]
        assert len(read) - complete == (length not in (0, *ends))
        assert all(isinstance(r, TFRecordError) and r.fatal for r in read[complete:])


def test_damaged_data_cost_one_record_only(tmp_path):
    damaged = bytearray(made.write(tmp_path / "r", RECORDS).read_bytes())
    damaged[13] ^= 1
    (tmp_path / "r").write_bytes(damaged)
    first, *others = read_records(tmp_path / "r")
    assert isinstance(first, TFRecordError) and "data is wrong" in str(first) and not first.fatal
    assert tuple(others) == RECORDS[1:]


def test_a_damaged_length_ends_the_file(tmp_path):
    damaged = bytearray(made.write(tmp_path / "r", RECORDS).read_bytes())
    damaged[0] ^= 1
    (tmp_path / "r").write_bytes(damaged)
    assert reasons(tmp_path / "r") == ["the checksum of a record's length is wrong"]
    assert len(list(read_records(tmp_path / "r"))) == 1


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, RECORD_LIMIT + 1, 1000])
def test_a_length_that_the_file_cannot_hold_is_refused_before_it_is_allocated(tmp_path, length):
    head = length.to_bytes(8, "little")
    (tmp_path / "r").write_bytes(head + made.checksum(head) + b"short")
    (reason,) = reasons(tmp_path / "r")
    assert ("which is too many" if length > RECORD_LIMIT else "ends within a record") in reason


def test_an_example_holds_bytes_floats_and_whole_numbers():
    features, lists = parse_example(EXAMPLE)
    assert lists == {}
    assert features["id"] == (b"abcd",) and features["none"] == ()
    assert np.asarray(features["labels"]).tolist() == [0, 300, -1, 2**63 - 1]
    assert np.asarray(features["unpacked"]).tolist() == [7, 128]
    assert np.array_equal(features["mean"], np.array([0.5, -2.0, 1e30], np.float32))


def test_a_sequence_example_holds_a_context_and_lists_of_features():
    features, lists = parse_example(SEQUENCE)
    assert features["id"] == (b"x",) and np.asarray(features["labels"]).tolist() == [3]
    assert lists["audio"] == [] and np.asarray(lists["rgb"]).tolist() == [[0, 255], [1, 2]]


@pytest.mark.parametrize(
    "steps", [[(b"ab",), (b"abc",)], [(b"ab",), (b"c", b"")], [(b"",), (b"",)], [(), (b"ab",)], [(b"a", b"b")] * 2]
)
def test_a_list_of_unequal_steps_is_a_list_of_features(steps):
    _, lists = parse_example(made.sequence_example({}, {"x": [made.of_bytes(*step) for step in steps]}))
    assert lists["x"] == steps


def test_fields_that_are_not_known_are_passed_over():
    strange = made.varint(9 << 3) + made.varint(5) + made.varint(8 << 3 | 1) + bytes(8) + made.varint(7 << 3 | 5)
    assert repr(parse_example(strange + bytes(4) + SEQUENCE)) == repr(parse_example(SEQUENCE))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"\x0a\x05ab", "ends within a field"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends within a field"),
        (b"\x0a", "ends within a number"),
        (b"\x80" * 11, "more than ten bytes"),
        (b"\x0b", "unknown type 3"),
        (made.example({"x": made.field(2, made.field(1, b"abc"))}), "list of numbers"),
        (made.example({"x": made.field(3, made.field(1, b"\x80"))}), "ends within a number"),
        (made.example({"x": made.field(3, b"\x0d" + bytes(4))}), "list of whole numbers"),
    ],
)
def test_a_damaged_message_is_a_reason(record, said):
    with pytest.raises(TFRecordError, match=said):
        parse_example(record)


@given(st.sampled_from([EXAMPLE, SEQUENCE]), st.data())
def test_a_message_with_any_bytes_changed_is_read_or_refused(record, data):
    changed = bytearray(record)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    try:
        features, lists = parse_example(bytes(changed[:cut]))
    except TFRecordError:
        return
    held = [v for f in (*features.values(), *(s for steps in lists.values() for s in steps)) for v in f]
    assert len(held) <= len(record)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(record):
    try:
        features, lists = parse_example(record)
    except TFRecordError:
        return
    assert isinstance(features, dict) and isinstance(lists, dict)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_file_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "r"
    path.write_bytes(data)
    assert len(list(read_records(path))) <= 1 + len(data) // 16
