"""What a program's words on stderr leave on a screen."""

import re


def left_on_screen(err: str) -> str:
    """The same without bars that were cleared; a slow machine shows more of them.

    A bar below another one is written over with blanks, and ends with going a line up.
    """
    lines = re.sub("(?m)^ *\x1b\\[A", "", err).replace("\x1b[A", "").split("\n")
    return "\n".join(line.rsplit("\r", 1)[-1] for line in lines)
