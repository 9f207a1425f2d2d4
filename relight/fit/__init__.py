"""What optimising stages share."""
