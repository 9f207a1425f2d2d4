"""Nouns of space: cameras, transforms, Gaussians, spherical harmonics.  Torch only."""
