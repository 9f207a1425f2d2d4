"""Adapters from rasterisers to `relight.render.protocol`."""
