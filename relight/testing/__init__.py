"""What tests are made of, public for the authors of backends, stages and formats."""
