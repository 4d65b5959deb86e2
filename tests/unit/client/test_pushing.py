"""Where models can be taken to."""

from __future__ import annotations

import pytest

from gradients.client.pushing import HubPlace, Place, S3Place, place_of
from gradients.errors import SetupError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hub:acme/tuned-1.0", HubPlace("acme/tuned-1.0", public=False)),
        ("s3://acme/models/tuned/", S3Place("acme", "models/tuned")),
    ],
)
def test_a_place_is_a_hubs_repo_or_a_part_of_a_bucket(text: str, place: Place) -> None:
    assert place_of(text) == place


@pytest.mark.parametrize(
    "text", ["acme/tuned", "hub:tuned", "hub:a/b/c", "hub:--x/y", "s3://acme", "s3://acme/", "s3://A/b", ""]
)
def test_what_is_not_a_place_is_refused_before_anything_is_fetched(text: str) -> None:
    with pytest.raises(SetupError, match="is not a place for models"):
        place_of(text)
