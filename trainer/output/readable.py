"""Names of files as text."""


def readable(name: str) -> str:
    """The name with a question mark for what is no character; names of files are bytes, or nearly text."""
    return name.encode("utf-8", "replace").decode()
