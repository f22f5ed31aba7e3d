"""What a program's words on stderr leave on a screen."""


def left_on_screen(err: str) -> str:
    """The same without bars that were cleared; a slow machine shows more of them."""
    return "\n".join(line.rsplit("\r", 1)[-1] for line in err.split("\n"))
