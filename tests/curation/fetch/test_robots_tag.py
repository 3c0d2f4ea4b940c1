"""X-Robots-Tag: which rules are meant for us. Facts of Google's page, and headers of bug reports."""

from __future__ import annotations

import pytest

from curation.fetch.robots_tag import rules_for
from curation.recipe.recipe import Fetch

OBEYED = set(Fetch().optout)


@pytest.mark.parametrize(
    "headers",
    [
        ["noai"], ["noimageai"], ["noindex"], ["noimageindex"], ["none"], ["NoAI"], ["  noai  "], ["nofollow,noai"],
        ["nofollow , noai"], ["noai,"], [", noai"], ["nofollow", "noai"],
        # parameters
        ["max-image-preview:large, noimageai"], ["noai, max-snippet:-1"], ["max-snippet: -1, noai"],
        ["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"],
        ["unavailable_after: Wed, 25 Jun 2025 15:00:00 GMT, noai"],
        ["unavailable_after: Wednesday, 25-Jun-25 15:00:00 GMT, noai"],
        ["unavailable_after: 2025-06-25T15:00:00+02:00, noai"],
        ["max-something-new: 5, noai"],
        # agents
        ["facemakeup: noai"], ["FaceMakeup: NOAI"], ["facemakeup:noai"], ["facemakeup : noai"], ["*: noai"],
        ["facemakeup: nofollow, noai"], ["otherbot: nofollow, facemakeup: noai"],
        ["otherbot: nofollow, third: noai, facemakeup: noai"], ["noai, otherbot: nofollow"],
        ["facemakeup: none"], ["facemakeup: max-snippet:-1, noai"], ["otherbot: noai", "noai"],
        ["facemakeup: unavailable_after: 25 Jun 2010 15:00:00 PST, noai"],
        # what people write in place of it
        ["nofollow; noai"], ["max-image-preview: large; noimageai"], ["noai noimageai"], ['"noai"'], ["noai."],
        ["robots: noai"], ["X-Robots-Tag: noai"], ["facemakeup/1.0: noai"], ["noai: true"],
    ],
)  # fmt: skip
def test_opted_out(headers):
    assert rules_for(headers, "facemakeup") & OBEYED


@pytest.mark.parametrize(
    "headers",
    [
        [], [""], ["all"], ["nofollow"], ["nosnippet, noarchive"], ["max-image-preview:none"], ["max-snippet:0"],
        ["unavailable_after: 25 Jun 2010 15:00:00 PST"], ["noaircraft"], ["no ai"],
        ["otherbot: noai"], ["otherbot: nofollow, noai"], ["facemakeup: nofollow, otherbot: noai"],
        ["otherbot: unavailable_after: Wed, 25 Jun 2025 15:00:00 GMT, noai"], ["facemakeup2: noai"],
        ["otherbot: max-snippet:-1, noai"], ["otherbot/2: noai"], ["otherbot: nofollow; noai"], ["nofollow no ai"],
        [":::"], ["\xff: noai"],
    ],
)  # fmt: skip
def test_not_opted_out(headers):
    assert not rules_for(headers, "facemakeup") & OBEYED


def test_without_a_name_of_our_own_only_what_is_for_everybody_counts():
    assert rules_for(["facemakeup: noai, *: nofollow"], None) == {"nofollow"}


def test_none_is_itself_and_what_it_stands_for():
    assert rules_for(["none"], "facemakeup") == {"none", "noindex", "nofollow"}
