"""Names and messages as a terminal can bear them."""

__all__ = ["shown"]


def shown(name: str) -> str:
    """A name without what would steer the terminal or break the line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )
