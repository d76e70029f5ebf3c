"""How well the load client keeps time, beside its peers, against a server that writes down what it sent when."""
