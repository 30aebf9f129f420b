"""Files that are there whole or not at all. Knows bytes; knows nothing of what they mean."""

from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside `path` and put it in its place, which happens at once or not."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)
