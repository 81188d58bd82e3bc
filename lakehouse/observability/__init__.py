"""What the tables know about themselves: where every version and every row came from."""
