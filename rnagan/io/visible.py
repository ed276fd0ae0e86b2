"""Text that shows every sign in it: names of slides, donors, genes and files may hold what a terminal obeys."""

import unicodedata


def visible(text: str) -> str:
    """A text for people, with the names in it as they are, but for signs that a terminal would obey or not show.

    These are written as in Python (`\\x1b`, `\\r`): control signs but tab and line feed, other ends of lines,
    halves of characters, and signs without a width, among them those that turn the direction of writing.
    """
    return "".join(sign if _is_shown(sign) else sign.encode("unicode_escape").decode("ascii") for sign in text)


_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories
_KEPT = "\t\n\u200c\u200d"  # the last two join and part letters of names, and pictures


def _is_shown(sign: str) -> bool:
    return sign in _KEPT or unicodedata.category(sign) not in _HIDDEN
