"""Times as they come, as milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

import polars as pl

__all__ = ["FIRST_MS", "LAST_MS", "to_milliseconds"]

#: 1900-01-01 and the last millisecond of 2200: a time outside is a mistake, such as a wrong unit.
FIRST_MS = -2_208_988_800_000
LAST_MS = 7_289_654_399_999

_MS_PER_SECOND = 1000
_UNITS_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}

#: ISO 8601 without a zone, which is read as UTC. Whole seconds have a form of their own, since
#: polars reads it seven times as fast.
_NAIVE = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
)
_ZONED = (
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M%#z",
    "%Y-%m-%dT%H:%M%#z",
)
_SAMPLE = 100


def to_milliseconds(raw: pl.Series, unit: str) -> pl.Series:
    """Read a column of times.

    Args:
        raw: dates, datetimes (naive ones are UTC), numbers, or texts of either.
        unit: of numbers: "s", "ms", "us" or "ns"; "auto" for columns that hold none.

    Returns:
        Int64 of raw's length; null where a time is missing or cannot be read. Integers and
        datetimes are rounded down, fractions to the nearest millisecond.
    """
    if raw.dtype in (pl.Date, pl.Datetime):
        return raw.cast(pl.Datetime("ms", getattr(raw.dtype, "time_zone", None))).dt.epoch("ms")
    if raw.dtype == pl.String:
        texts = raw.str.strip_chars()
        return _from_iso(texts) if unit == "auto" else _from_digits(texts, unit)
    return _from_numbers(raw, unit)


def _from_iso(texts: pl.Series) -> pl.Series:
    """Try the forms one after the other on what is left, the one of the first rows first."""
    sample = texts.head(_SAMPLE)
    forms = sorted((*_NAIVE, *_ZONED), key=lambda form: _from_form(sample, form).null_count())
    result = _from_form(texts, forms[0])
    for form in forms[1:]:
        left = result.is_null() & texts.is_not_null()
        if not left.any():
            break
        result = result.scatter(left.arg_true(), _from_form(texts.filter(left), form))
    return result


def _from_form(texts: pl.Series, form: str) -> pl.Series:
    if form in _ZONED:
        texts = texts.str.replace(r"[zZ]$", "+00:00")
    if form == "%Y-%m-%d":
        return texts.str.to_date(form, strict=False).cast(pl.Datetime("ms")).dt.epoch("ms")
    return texts.str.to_datetime(form, time_unit="ms", strict=False).dt.epoch("ms")


def _from_digits(texts: pl.Series, unit: str) -> pl.Series:
    whole = _from_numbers(texts.cast(pl.Int64, strict=False), unit)
    if whole.null_count() == texts.null_count():
        return whole
    return whole.zip_with(
        whole.is_not_null(), _from_numbers(texts.cast(pl.Float64, strict=False), unit)
    )


def _from_numbers(numbers: pl.Series, unit: str) -> pl.Series:
    # The clips keep a time that is far out of range there, where it would overflow.
    per_second = _UNITS_PER_SECOND[unit]
    if not numbers.dtype.is_integer():
        scaled = numbers.cast(pl.Float64).fill_nan(None) * (_MS_PER_SECOND / per_second)
        return scaled.round().clip(-1e18, 1e18).cast(pl.Int64)
    whole = numbers.cast(pl.Int64, strict=False)
    if per_second > _MS_PER_SECOND:
        return whole // (per_second // _MS_PER_SECOND)
    return whole.clip(-(10**15), 10**15) * (_MS_PER_SECOND // per_second)
