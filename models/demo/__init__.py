"""The three default models: data, training recipes and weights."""
