"""The avatar: attributes, binding to the head mesh, and its file."""
