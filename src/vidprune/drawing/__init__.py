"""What is seen of a forward, drawn: pictures, films and a page; nothing here runs a model."""
