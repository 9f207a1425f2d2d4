"""Pictures of people: cut out, given a shape, relit and put in front of something else."""
