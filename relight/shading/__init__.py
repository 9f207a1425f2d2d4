"""The shared physically based shading core.  Torch only."""
