"""The steps of a move, and what they are made of; `procedure` lists them in their order."""
