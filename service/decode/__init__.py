"""Raw input to tensors, with every limit on hostile input."""
