"""The records of a check: the same key, value and headers for the same number, whoever makes them."""
import hashlib


def record(i):
    """Key, value and headers of record i: keys repeat, some are None; values are 0 to 400 bytes, half of them compressible."""
    digest = hashlib.sha256(b"%d" % i).digest()
    key = None if i % 7 == 0 else b"key-%d" % (i % 1000)
    value = digest * (i % 12) if i % 2 else b"value %d " % i * (i % 40)
    headers = [("n", b"%d" % i), ("digest", digest)] if i % 5 == 0 else []
    return key, value, headers


def compare(got, count, partitions):
    """Checks that got, a list of (partition, offset, key, value, headers), is records 0..count-1 spread as i % partitions, in order."""
    at = [0] * partitions
    for partition, offset, key, value, headers in got:
        i = at[partition] * partitions + partition
        want = record(i)
        if (key, value, headers) != want or offset != at[partition]:
            raise SystemExit(f"partition {partition} offset {offset}: got {key!r} {value[:60]!r} {headers!r}, want {want!r} at {at[partition]}")
        at[partition] += 1
    if sum(at) != count:
        raise SystemExit(f"read {sum(at)} records, want {count}")
