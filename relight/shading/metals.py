"""What metals reflect."""

from __future__ import annotations

METALS = {
    "gold": (1.0, 0.782, 0.344), "copper": (0.955, 0.638, 0.538), "silver": (0.972, 0.96, 0.915),
    "steel": (0.56, 0.57, 0.58), "brass": (0.91, 0.78, 0.42), "aluminium": (0.913, 0.922, 0.924),
    "titanium": (0.542, 0.497, 0.449), "iron": (0.562, 0.565, 0.578),
}  # fmt: skip
"""Linear Rec.709 reflectance at normal incidence (Lagarde, Feeding a physically-based shading model, 2011; brass and
steel, which vary with what they are made of, as tables round them)."""
