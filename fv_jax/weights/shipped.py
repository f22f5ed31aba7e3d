"""The models that come with the package."""

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "assets"


def shipped_models() -> list[str]:
    """Their names."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))
