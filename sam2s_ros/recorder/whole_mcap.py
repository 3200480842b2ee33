"""An mcap file that is whole at any time, and the mending of one that is not."""

from __future__ import annotations

import errno
import os
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    MessageIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.stream_reader import StreamReader, breakup_chunk

from sam2s_model.files.file_locks import lock

MAGIC = b"\x89MCAP0\r\n"
FOOTER_BYTES = 9 + 8 + 8 + 4
CHUNK_BYTES = 8 << 20  # of messages, before they are compressed
COMMIT_EVERY = 1.0  # s, until messages are in the file
INDEX_RATE = 256 << 10  # bytes/s that indexes may cost: one grows by 80 bytes a chunk, and is written each time
SYNC_EVERY = 5.0  # s, until what is in the file is on the disk, for when the power fails


class WholeMcap:
    """Writes messages of ROS 2 to a new file that other programs open at any time, whatever ends this one.

    Messages are compressed (zstd) in chunks. About once a second what has come is written, with index and footer after
    it, over those of the time before. The file is locked (flock) while it is written.
    Raises FileExistsError when the file exists; OSError when it cannot be written, which leaves it as it was before: at
    the beginning, not there.
    """

    def __init__(self, path: Path):
        self._file = path.open("xb", buffering=0)
        self.messages = 0
        self._compressor = zstandard.ZstdCompressor()
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._counts: dict[int, int] = defaultdict(int)
        self._first, self._last = 2**63 - 1, 0  # ns
        self._chunk = RecordBuilder()
        self._entries: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (ns, place in the chunk), by channel
        self._chunk_indexes, self._chunks = bytearray(), 0  # records as they are in the file, and their number
        self._end, self._tail = 0, b""  # bytes of the file before the index, and what follows them
        self._due = self._sync_due = 0.0
        builder = RecordBuilder()
        Header(profile="ros2", library="sam2s_ros").write(builder)
        self._new = bytearray(MAGIC + builder.end())  # what is not in the file yet
        try:
            _lock(self._file)
            self._commit()
        except BaseException:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Return the id of a message definition."""
        self._register(Schema(id=len(self._schemas) + 1, data=data, encoding=encoding, name=name))
        return len(self._schemas)

    def add_channel(self, topic: str, schema: int) -> int:
        """Return the id of a topic with messages of that definition."""
        metadata = {"offered_qos_profiles": ""}
        number = len(self._channels) + 1
        self._register(Channel(id=number, topic=topic, message_encoding="cdr", metadata=metadata, schema_id=schema))
        return number

    def write(self, channel: int, time_ns: int, data: bytes) -> None:
        """Append a message. data: serialised (CDR); time_ns: when it was received"""
        self._entries[channel].append((time_ns, self._chunk.count))
        message = Message(channel_id=channel, log_time=time_ns, data=data, publish_time=time_ns, sequence=0)
        message.write(self._chunk)
        if self._chunk.count > CHUNK_BYTES:
            self._close_chunk()
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Put what has come into the file."""
        if self._entries:
            self._close_chunk()
        if self._new:
            self._commit()
        if time.monotonic() >= self._sync_due:
            os.fdatasync(self._file.fileno())
            self._sync_due = time.monotonic() + SYNC_EVERY

    def close(self) -> None:
        """Put all into the file, on the disk, and close it, also when that fails."""
        self._sync_due = 0.0
        try:
            self.flush()
        finally:
            self._file.close()

    def _register(self, record: Schema | Channel) -> None:
        if isinstance(record, Schema):
            self._schemas.append(record)
        else:
            self._channels.append(record)
        builder = RecordBuilder()
        record.write(builder)
        self._new += builder.end()

    def _close_chunk(self) -> None:
        indexes = [MessageIndex(channel_id=channel, records=entries) for channel, entries in self._entries.items()]
        times = [time_ns for entries in self._entries.values() for time_ns, _ in entries]
        data = self._chunk.end()
        self._entries = defaultdict(list)
        chunk = Chunk(
            compression="zstd", data=self._compressor.compress(data), message_start_time=min(times),
            message_end_time=max(times), uncompressed_crc=zlib.crc32(data), uncompressed_size=len(data),
        )  # fmt: skip
        self._append(chunk, indexes)

    def _append(self, chunk: Chunk, indexes: list[MessageIndex]) -> None:
        start, builder, offsets = self._end + len(self._new), RecordBuilder(), {}
        chunk.write(builder)
        length = builder.count
        for index in indexes:
            offsets[index.channel_id] = start + builder.count
            index.write(builder)
            self._counts[index.channel_id] += len(index.records)
            self.messages += len(index.records)
        index_of_chunk = ChunkIndex(
            chunk_start_offset=start, chunk_length=length, message_index_offsets=offsets,
            message_index_length=builder.count - length, compression=chunk.compression, compressed_size=len(chunk.data),
            uncompressed_size=chunk.uncompressed_size, message_start_time=chunk.message_start_time,
            message_end_time=chunk.message_end_time,
        )  # fmt: skip
        self._new += builder.end()
        index_of_chunk.write(builder)
        self._chunk_indexes += builder.end()
        self._chunks += 1
        self._first, self._last = min(self._first, chunk.message_start_time), max(self._last, chunk.message_end_time)

    def _commit(self) -> None:
        tail = self._tail_at(self._end + len(self._new))
        try:
            _write_all(self._file, bytes(self._new) + tail, self._end)
        except OSError:  # the disk is full: the index of the time before fits where it was
            _write_all(self._file, self._tail, self._end)
            self._file.truncate(self._end + len(self._tail))
            raise
        self._end, self._tail = self._end + len(self._new), tail
        self._new = bytearray()
        self._due = time.monotonic() + max(COMMIT_EVERY, len(tail) / INDEX_RATE)

    def _tail_at(self, start: int) -> bytes:
        """Write the end of the data, the summary and the footer of a file whose data has `start` bytes."""
        builder = RecordBuilder()
        DataEnd(data_section_crc=0).write(builder)
        data_end = builder.end()
        start += len(data_end)
        groups: list[tuple[Opcode, int, int]] = []
        for opcode, records in ((Opcode.SCHEMA, self._schemas), (Opcode.CHANNEL, self._channels)):
            before = builder.count
            for record in records:
                record.write(builder)
            groups.append((opcode, before, builder.count))
        before = builder.count
        Statistics(
            attachment_count=0, metadata_count=0, schema_count=len(self._schemas), channel_count=len(self._channels),
            chunk_count=self._chunks, message_count=self.messages, channel_message_counts=dict(self._counts),
            message_start_time=self._first if self.messages else 0, message_end_time=self._last,
        ).write(builder)  # fmt: skip
        groups.append((Opcode.STATISTICS, before, builder.count))
        before = builder.count
        builder.write(self._chunk_indexes)
        groups.append((Opcode.CHUNK_INDEX, before, builder.count))
        offsets = start + builder.count
        for opcode, first, end in groups:
            if end > first:
                SummaryOffset(group_opcode=opcode, group_start=start + first, group_length=end - first).write(builder)
        summary = builder.end()
        return data_end + summary + _footer(summary, start, offsets) + MAGIC


def is_whole(path: Path) -> bool:
    """Tell whether a file of `WholeMcap` has its end, with an index that belongs to it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < FOOTER_BYTES + 2 * len(MAGIC):
            return False
        file.seek(-FOOTER_BYTES - len(MAGIC), os.SEEK_END)
        footer, magic = file.read(FOOTER_BYTES), file.read()
        start, offsets = (int.from_bytes(footer[at : at + 8], "little") for at in (9, 17))
        if magic != MAGIC or not 0 < start <= size - FOOTER_BYTES - len(MAGIC):
            return False
        file.seek(start)
        return _footer(file.read(size - FOOTER_BYTES - len(MAGIC) - start), start, offsets) == footer


def is_locked(path: Path) -> bool:
    """Tell whether a process is writing it. Raises OSError where there is no telling."""
    with _open_to_lock(path) as file:
        return not _lock(file)


def mend(path: Path) -> int | None:
    """Give a file of `WholeMcap` that was cut its end, and keep every message that is whole in it.

    Return the number of messages, or None when it needs nothing: it is whole, or is being written. Raises OSError, as
    where the disk has no room for the second file, and leaves the first as it is.
    """
    with _open_to_lock(path) as file:
        if not _lock(file) or is_whole(path):
            return None
        part = path.with_name(f"{path.name}.mended")
        part.unlink(missing_ok=True)
        try:
            mended = WholeMcap(part)
            try:
                _copy(file, mended)
            finally:
                mended.close()
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        os.replace(part, path)
        return mended.messages


def _copy(file: BinaryIO, mended: WholeMcap) -> None:
    """Copy all chunks as they are; of the last one, whose index may be cut, the messages if its data is whole.

    What is copied is written a chunk's worth at a time: a bag may be larger than the memory. Raises OSError.
    """
    chunk: Chunk | None = None
    indexes: list[MessageIndex] = []
    for record in _whole_records(file):
        if isinstance(record, MessageIndex):
            indexes.append(record)
        if isinstance(record, (Chunk, Schema, Channel)):
            if chunk is not None:
                mended._append(chunk, indexes)
            chunk, indexes = None, []
        if isinstance(record, Chunk):
            chunk = record
        if isinstance(record, (Schema, Channel)):
            mended._register(record)
        if len(mended._new) > CHUNK_BYTES:
            mended._commit()
    if chunk is None:
        return
    try:
        records = breakup_chunk(chunk, validate_crc=True)
    except Exception:  # it is cut itself
        return
    for record in records:
        if isinstance(record, Message):
            mended.write(record.channel_id, record.log_time, record.data)


def _whole_records(file: BinaryIO) -> Iterator[McapRecord]:
    """Yield the records of the data, up to its end or to where it is cut."""
    records = iter(StreamReader(file, emit_chunks=True).records)
    while True:
        try:
            record = next(records)
        except OSError:  # of the disk: what follows may be whole
            raise
        except Exception:  # whatever the bytes lead to, at which it is cut, or the end of them
            return
        if isinstance(record, DataEnd):
            return
        yield record


def _footer(summary: bytes, start: int, offsets: int) -> bytes:
    """Write the footer of a summary at `start`, with its checksum. offsets: where the offsets in it begin"""
    builder = RecordBuilder()
    Footer(summary_start=start, summary_offset_start=offsets, summary_crc=0).write(builder)
    without = builder.end()[:-4]
    return without + zlib.crc32(without, zlib.crc32(summary)).to_bytes(4, "little")


def _open_to_lock(path: Path) -> BinaryIO:
    """Open a file to be read; where it may be written to, for that as well, without which NFS gives no lock."""
    try:
        return path.open("r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return path.open("rb")


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed. Return whether no other process holds it. Raises OSError as `lock`."""
    try:
        lock(file)
    except BlockingIOError:
        return False
    return True


def _write_all(file: BinaryIO, data: bytes, position: int) -> None:
    """Write all of it at a position of the file. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, position)
        view, position = view[written:], position + written
