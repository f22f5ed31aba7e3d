"""`fv studio`: a page that shows how a video comes about, and the server behind it."""

from fv_jax.cli.commands import Studio
from fv_jax.cli.progress import working
from fv_jax.generation.generator import Generator

_SHORTEST_TOKEN = 16
_HERE = ("127.0.0.1", "localhost", "::1")


def studio(command: Studio) -> int:
    """Serve until a signal comes. Returns the exit code.

    Raises:
        ValueError: another address than this machine's without a token, or the extra is missing.
        OSError: the port is taken.
    """
    if command.host not in _HERE and not command.token:
        raise ValueError(
            f"--host {command.host} lets others in: give --token, {_SHORTEST_TOKEN} letters or more"
        )
    if command.token and len(command.token) < _SHORTEST_TOKEN:
        raise ValueError(f"--token must have at least {_SHORTEST_TOKEN} letters")
    try:
        from fv_jax.studio.server import Studio as Server
        from fv_jax.studio.server import bound, serve
    except ModuleNotFoundError as error:
        raise ValueError(f"`pip install fv-jax[studio]` first: {error}") from error
    with bound(command.host, command.port) as listening:
        with working(f"opening {command.model}"):
            generator = Generator.load(command.model)
        server = Server(generator, command.token)
        server.warm()
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{port}/ shows {generator.model.name}; Ctrl-C ends it", flush=True)
        serve(server, listening)
    return 0
