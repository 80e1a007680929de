"""What look-up is worth on this machine: encoding, searching, building, storage and memory, beside full models."""
