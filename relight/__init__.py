"""Photos in; relightable, compressed, selectable 3D assets out."""

__version__ = "0.1.0"
