"""Event files are read without TensorBoard, and only what their checksums vouch for."""

from __future__ import annotations

import struct

import event_files as ev
import pytest

from workbench.errors import InputError
from workbench.tfevents import LARGEST, LONGEST_TAG, crc32c, masked_crc32c, read_events

LOSSES = (("Train_Epoch/Loss", 1, 0.5), ("Validation_Epoch/Loss", 1, 0.75), ("Train_Epoch/Loss", 2, 0.25))


@pytest.fixture
def write(tmp_path):
    def write_file(content: bytes):
        path = tmp_path / "events.out.tfevents.1.host"
        path.write_bytes(content)
        return path

    return write_file


def points(path):
    return [(scalar.tag, scalar.step, scalar.value) for scalar in read_events(path).scalars]


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_checksum_is_that_of_the_iscsi_standard(data, expected):
    assert crc32c(data) == expected


def test_masked_checksum_is_that_of_an_independent_implementation(rng):
    data = rng.bytes(100)
    assert struct.pack("<I", masked_crc32c(data)) == ev.masked(data)


def test_scalars_come_back_in_order_with_step_and_time(write):
    path = write(ev.version() + ev.scalars(*LOSSES))
    assert points(path) == list(LOSSES)
    content = read_events(path)
    assert content.problem is None
    assert {scalar.wall_time for scalar in content.scalars} == {1.5e9}


def test_an_event_may_hold_several_scalars_and_odd_numbers(write):
    values = [ev.simple("a", float("inf")), ev.simple("b", -0.5)]
    path = write(ev.version() + ev.record(ev.event(-3, *values)))
    assert points(path) == [("a", -3, float("inf")), ("b", -3, -0.5)]


@pytest.mark.parametrize(
    ("dtype", "content", "expected"),
    [
        (1, ev.field(5, 5, ev.float_bytes(0.125)), 0.125),  # float_val, not packed
        (1, ev.block(5, ev.float_bytes(0.125)), 0.125),  # float_val, packed
        (1, ev.block(4, ev.float_bytes(0.125)), 0.125),  # tensor_content
        (2, ev.block(4, struct.pack("<d", 0.1)), 0.1),
        (2, ev.field(6, 1, struct.pack("<d", 0.1)), 0.1),
        (3, ev.block(7, ev.varint(-7)), -7.0),
        (9, ev.field(10, 0, ev.varint(12)), 12.0),
    ],
)
def test_a_tensor_of_one_number_is_a_scalar(write, dtype, content, expected):
    path = write(ev.version() + ev.record(ev.event(4, ev.tensor("loss", dtype, content))))
    assert points(path) == [("loss", 4, expected)]


@pytest.mark.parametrize(
    "value",
    [
        ev.tensor("many", 1, ev.block(4, ev.float_bytes(1.0) * 2)),
        ev.tensor("many", 1, ev.field(5, 5, ev.float_bytes(1.0)) * 2),
        ev.tensor("text", 7, ev.block(8, b"<pre>lr = 1</pre>")),
        ev.block(1, b"histogram") + ev.block(5, ev.field(1, 1, bytes(8))),
    ],
)
def test_what_is_no_scalar_is_stepped_over(write, value):
    path = write(ev.version() + ev.record(ev.event(1, value)) + ev.scalars(LOSSES[0]))
    assert points(path) == [LOSSES[0]]
    assert read_events(path).problem is None


def test_every_truncation_keeps_the_whole_records_before_it(write):
    whole = ev.version() + ev.scalars(*LOSSES)
    ends = [len(ev.version())]
    for point in LOSSES:
        ends.append(ends[-1] + len(ev.scalars(point)))
    for size in range(1, len(whole)):
        path = write(whole[:size])
        kept = sum(end <= size for end in ends[1:])
        assert points(path) == list(LOSSES[:kept])
        problem = read_events(path).problem
        assert (problem is None) == (size in ends)
        if problem:
            start = max([0, *(end for end in ends if end < size)])
            assert f"at byte {start}" in problem


def test_a_damaged_payload_costs_one_record_and_is_counted(write):
    first, second = ev.scalars(LOSSES[0]), bytearray(ev.scalars(LOSSES[1]))
    second[20] ^= 1
    path = write(ev.version() + first + bytes(second) + ev.scalars(LOSSES[2]))
    assert points(path) == [LOSSES[0], LOSSES[2]]
    assert read_events(path).problem == "1 damaged record left out"


def test_a_damaged_length_ends_the_file_there(write):
    head = ev.version() + ev.scalars(LOSSES[0])
    broken = bytearray(ev.scalars(LOSSES[1]))
    broken[0] ^= 1
    path = write(head + bytes(broken) + ev.scalars(LOSSES[2]))
    assert points(path) == [LOSSES[0]]
    assert f"damaged at byte {len(head)}" in (read_events(path).problem or "")


def test_a_record_that_claims_to_be_huge_takes_no_memory(write):
    length = struct.pack("<Q", 1 << 62)
    path = write(ev.version() + ev.scalars(LOSSES[0]) + length + ev.masked(length) + b"abc")
    assert points(path) == [LOSSES[0]]
    assert "ends within a record" in (read_events(path).problem or "")


def test_large_records_are_stepped_over_unread(write):
    length = struct.pack("<Q", LARGEST + 1)
    large = length + ev.masked(length) + bytes(LARGEST + 1) + b"????"
    path = write(ev.version() + large + ev.scalars(LOSSES[0]))
    assert points(path) == [LOSSES[0]]


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff" * 12,  # a number without end
        ev.field(2, 2, ev.varint(1 << 40)),  # longer than the record
        ev.field(1, 3, b""),  # a group
        ev.field(2, 1, bytes(8)) + ev.field(1, 0, b"\x05") + ev.block(5, b"\x0a\xff"),
        ev.event(1, ev.block(1, b"t") + ev.block(8, ev.field(1, 0, b"\x01") + ev.field(5, 1, bytes(8)))),
    ],
)
def test_a_payload_that_is_no_message_is_left_out(write, payload):
    path = write(ev.version() + ev.record(payload) + ev.scalars(LOSSES[0]))
    assert points(path) == [LOSSES[0]]
    assert read_events(path).problem == "1 damaged record left out"


def test_random_payloads_never_hide_the_record_behind_them(write, rng):
    payloads = [rng.bytes(int(rng.integers(0, 60))) for _ in range(300)]
    noise = b"".join(ev.record(payload) for payload in payloads)
    assert points(write(ev.version() + noise + ev.scalars(LOSSES[0])))[-1] == LOSSES[0]


def test_other_files_are_named_as_such(write):
    content = read_events(write(b"this is a text, not a row of records"))
    assert content.scalars == ()
    assert content.problem == "is no event file"
    assert read_events(write(b"")).problem is None


def test_tags_are_short_and_printable(write):
    path = write(ev.version() + ev.scalars(("\x1b[31mred\x07" + "x" * 1000, 1, 1.0)))
    (tag,) = {scalar.tag for scalar in read_events(path).scalars}
    assert tag.isprintable()
    assert len(tag) == LONGEST_TAG


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_events(tmp_path / "nothing")
