"""Hypothesis strategies for the contents of untrusted files."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, or `content` with up to 40 bytes replaced by up to 40 others."""
    place = st.integers(0, len(content))
    edited = st.tuples(place, st.integers(0, 40), st.binary(max_size=40)).map(
        lambda edit: content[: edit[0]] + edit[2] + content[edit[0] + edit[1] :]
    )
    return st.binary(max_size=200) | edited
