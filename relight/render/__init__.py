"""Drawing Gaussians: protocol, reference, backends."""
