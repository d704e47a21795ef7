"""What is recognized as a secret, and what is not."""

import dataclasses

import pytest

from experiments.common.redaction import redact, redacted

SECRETS = {
    "https://me:pass@host/a": "https://***@host/a",
    "s3://KEY:SE@CRET@host:9000/b c": "s3://***@host:9000/b c",
    "x://token@h": "x://***@h",
    "http://h/a?X-Amz-Credential=A%2F1&n=3": "http://h/a?X-Amz-Credential=***&n=3",
    "http://h/?sig=abc&api_key=d&token=e": "http://h/?sig=***&api_key=***&token=***",
    "a hf_" + 34 * "x" + " b": "a *** b",
    "ghp_" + 36 * "1": "***",
    "AKIA" + 16 * "7": "***",
    "Authorization: Bearer abc.def-ghi=": "Authorization: Bearer ***",
    "what HF_TOKEN holds: open-sesame!": "what HF_TOKEN holds: ***",
}
PLAIN = (
    "python -m experiments.cka --domains=a=dir:/b@c,d=tfds:e/f:train?image=key&label=token@/data",
    "gs://bucket/a@b",
    "hf:org/name@refs/pr/1",
    "https://host:8080/path",
    "short: abc",
)


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "open-sesame!")
    monkeypatch.setenv("OTHER_SECRET", "abc")  # too short to be looked for
    monkeypatch.setenv("SOME_PATH", "/path")


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_hidden(text):
    assert redact(text) == SECRETS[text]
    assert redact(SECRETS[text]) == SECRETS[text]


@pytest.mark.parametrize("text", PLAIN)
def test_the_rest_stays(text):
    assert redact(text) == text


@dataclasses.dataclass(frozen=True)
class Found:
    text: str
    more: dict
    number: float = 0.5


def test_strings_are_found_wherever_they_are():
    found = redacted(Found("a://b@c", {"a://b@c": ["a://b@c", None], "n": (1, Found("", {}))}))
    assert found == Found("a://***@c", {"a://b@c": ["a://***@c", None], "n": (1, Found("", {}))})
