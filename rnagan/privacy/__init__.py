"""What a model gives away of the people that it was trained on."""
