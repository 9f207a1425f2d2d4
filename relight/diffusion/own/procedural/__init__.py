"""Random scenes whose truth is known, to train priors on: lights, shapes, textures, and pairs made of them."""
