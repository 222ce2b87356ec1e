"""The search page: a collection in a browser. It reads only, and a request never holds the path of a file."""
