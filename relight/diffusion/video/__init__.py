"""Films under new light, without flicker: Light-A-Video's two ideas over any relighter, and what streams long clips."""
