"""The page for people: search as one types, and what there is to call. HTML is made here, of escaped text alone."""
