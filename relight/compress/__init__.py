"""Small splats that look the same: what Gaussians count for, recovery after pruning, and files judged as read."""
