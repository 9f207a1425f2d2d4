"""Pictures under another light: hints, shape, relighters, what they are scored by, and pictures taken apart."""
