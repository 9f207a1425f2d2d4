"""Light from all around: estimated, measured, taken apart into lights, scored."""
