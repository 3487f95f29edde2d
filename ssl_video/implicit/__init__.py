"""One video learned by one network: a coordinate network and a layered atlas."""
