"""From a torch model to a verified bundle."""
