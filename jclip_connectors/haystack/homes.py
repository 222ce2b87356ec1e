"""The modules from which Haystack imports the classes of this package.

`Pipeline.loads` imports a class by the module that its `__module__` names, and only from modules on its allowlist,
such as those in the namespace package `haystack_integrations`. So the classes say that they live there, and the modules
there have nothing but these classes.
"""

EMBEDDERS = "haystack_integrations.components.embedders.jina_clip"
RETRIEVERS = "haystack_integrations.components.retrievers.jina_clip"
DOCUMENT_STORES = "haystack_integrations.document_stores.jina_clip"
