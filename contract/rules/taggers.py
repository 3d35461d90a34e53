"""The taggers that people know by a short name, and how a name, repository or folder is told apart."""

import string
from typing import Final

#: Short names → repositories on the hub.
SHORT_NAMES: Final = {
    "wd14-vit": "SmilingWolf/wd-v1-4-vit-tagger",
    "wd14-vit-v2": "SmilingWolf/wd-v1-4-vit-tagger-v2",
    "wd14-convnext": "SmilingWolf/wd-v1-4-convnext-tagger",
    "wd14-convnext-v2": "SmilingWolf/wd-v1-4-convnext-tagger-v2",
    "wd14-convnextv2-v2": "SmilingWolf/wd-v1-4-convnextv2-tagger-v2",
    "wd14-swinv2-v2": "SmilingWolf/wd-v1-4-swinv2-tagger-v2",
    "wd14-moat-v2": "SmilingWolf/wd-v1-4-moat-tagger-v2",
    "wd-vit-v3": "SmilingWolf/wd-vit-tagger-v3",
    "wd-convnext-v3": "SmilingWolf/wd-convnext-tagger-v3",
    "wd-swinv2-v3": "SmilingWolf/wd-swinv2-tagger-v3",
    "wd-vit-large-v3": "SmilingWolf/wd-vit-large-tagger-v3",
    "wd-eva02-large-v3": "SmilingWolf/wd-eva02-large-tagger-v3",
}


#: Characters of the two parts of a repository's name; each begins with a letter or digit.
_NAME: Final = frozenset(string.ascii_letters + string.digits + "-_.")


def model_reference(text: str) -> dict[str, str]:
    """The fields of a TaggerModel for what a person wrote: a short name, `owner/name[@revision]`, or an
    absolute path.

    Raises ValueError for a name that is none of these.
    """
    if text.startswith("/") or text[1:3] in (":\\", ":/") or text.startswith("\\\\"):
        return {"path": text}
    if text in SHORT_NAMES:
        return {"repo": SHORT_NAMES[text]}
    repo, _, revision = text.partition("@")
    if all(part[:1].isalnum() and set(part) <= _NAME for part in repo.split("/")) and repo.count("/") == 1:
        return {"repo": repo} | ({"revision": revision} if revision else {})
    raise ValueError(
        f"`{text}` is no known tagger; use owner/name, a folder, or one of {', '.join(SHORT_NAMES)}."
    )
