"""Where a job's demonstrations lie."""

import pytest

from fleet_runtime.learner.offline import located


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("datasets/demo", "file:///store/datasets/demo"),
        ("file:///elsewhere/demo", "file:///elsewhere/demo"),
        ("s3://bucket/demo", "s3://bucket/demo"),
        ("/data/demo", "/data/demo"),
    ],
)
def test_a_dataset_that_names_no_place_lies_in_the_jobs_own_store(written: str, found: str) -> None:
    assert located(written, "file:///store/") == found
