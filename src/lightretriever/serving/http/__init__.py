"""How a request is read, answered and refused, whatever it asks for."""
