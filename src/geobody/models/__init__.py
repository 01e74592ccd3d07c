"""Networks: plain keyword arguments in, tensors out."""
