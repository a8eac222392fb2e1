"""What is no strict JSON is refused, and what is comes out as the standard parser reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from penchant.serve.wire.strict_json import strict_json

texts = st.text(st.sampled_from('ab:"\\é{},'), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(texts, part, max_size=3),
    max_leaves=12,
)


@given(values, st.booleans(), st.booleans())
def test_good_json_is_read_as_the_standard_parser_does(
    value: Any, escaped: bool, spaced: bool
) -> None:
    body = json.dumps(value, ensure_ascii=escaped, indent=1 if spaced else None).encode()
    assert strict_json(body) == value


@given(st.lists(st.tuples(texts, values), min_size=1, max_size=4), st.data())
def test_a_key_that_comes_twice_is_refused_wherever_it_stands(
    pairs: list[tuple[str, Any]], data: st.DataObject
) -> None:
    again = data.draw(st.sampled_from(pairs))[0], data.draw(values)
    at = data.draw(st.integers(0, len(pairs)))
    members = [*pairs[:at], again, *pairs[at:]]
    inner = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in members)
    before, after = data.draw(st.sampled_from([('{"in": {', "}}"), ("[{", "}, 1]"), ("{", "}")]))
    refused(before + inner + after)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'\xef\xbb\xbf["\\n"]',
        '["\\n"]'.encode("utf-16"),
        b'{"k": NaN}',
        b'{"k": -Infinity}',
        b'["\\u0000", NaN]',
        b'{"history": [], "history": []}',
        b'{"a": ":", "a": 1}',
        b'{"a": "\\u003a", "a": 1}',
        b'{"history": [], "\\u0068istory": []}',
        b"[" * 2_400 + b"]" * 2_400,
        b'{"a":' * 2_400 + b"1" + b"}" * 2_400,
        b"[" * 100_000,
        b'{"k": ' + b"9" * 4_900 + b"}",
    ],
)
def test_what_is_no_strict_json_is_refused(body: bytes) -> None:
    refused(body)


def refused(body: bytes | str) -> None:
    with pytest.raises(HTTPException) as caught:
        strict_json(body if isinstance(body, bytes) else body.encode())
    assert caught.value.status_code == 400
