"""Keys and passwords out of what a run writes and prints.

A command line may hold them: in a URL (s3://KEY:SECRET@host/, ?X-Amz-Signature=...), or because
someone typed one. result.json, the report and messages repeat command lines, and reports are passed
on. Redacted are

    user and password of a URL, and values in its query that are called as secrets are
    tokens of Hugging Face, GitHub, Amazon, and what follows "Bearer"
    what environment variables hold that are called as secrets are (HF_TOKEN, ...), wherever it
    stands

Not guaranteed: a secret of no such form and under no such name is not recognized.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_NAMES = r"token|secret|passw|signature|credential|auth|(?:api|access|account)_?-?key|keyid"
_FORMS = (
    # Scheme, then all before the last @ of the host's part.
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s'\"]*@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (
        re.compile(rf"([?&;](?:[\w-]*(?:{_NAMES})[\w-]*|sig|key)=)[^&;\s'\"]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_)\w{16,}"), HIDDEN),
    (re.compile(r"\bA(?:KI|SI)A[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\b(Bearer )[\w.~+/-]{8,}=*", re.IGNORECASE), rf"\1{HIDDEN}"),
)
_VARIABLE = re.compile("TOKEN|SECRET|PASSW|(?:API|ACCESS|ACCOUNT)_?KEY")
_LEAST = 8  # letters; a shorter value may stand anywhere by chance


def redact(text: str) -> str:
    """A text without the secrets that are recognized.

    Example:
        >>> redact("--store=s3://me:pass@host/a?X-Amz-Signature=1f2e&part=3")
        '--store=s3://***@host/a?X-Amz-Signature=***&part=3'
        >>> redact("tfds:eurosat:train?image=key@data gs://bucket/a@b hf:org/hf_small@refs/pr/1")
        'tfds:eurosat:train?image=key@data gs://bucket/a@b hf:org/hf_small@refs/pr/1'
    """
    for name, value in os.environ.items():
        if _VARIABLE.search(name.upper()) and len(value) >= _LEAST:
            text = text.replace(value, HIDDEN)
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text


def redacted(value: Any) -> Any:
    """A dataclass, mapping or list with every string in it redacted; keys stay as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(redacted(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: redacted(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
