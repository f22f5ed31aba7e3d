"""Every setting, as frozen dataclasses that check themselves."""
