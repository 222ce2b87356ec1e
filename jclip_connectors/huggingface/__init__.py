"""jina-clip for transformers 5: importing this package registers native classes with the Auto classes.

    import jclip_connectors.huggingface
    model = AutoModel.from_pretrained("jinaai/jina-clip-v2")

The checkpoint's `auto_map` names code in another repository. transformers asks before it runs that code, unless a class
is registered for the `model_type`. These classes are registered, so transformers does not ask and does not run the
code, not even with `trust_remote_code=True`.
"""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.huggingface.loading import JinaCLIPConfig
    from jclip_connectors.huggingface.model import JinaCLIPModel
    from jclip_connectors.huggingface.processor import JinaCLIPImageProcessor, JinaCLIPProcessor
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="huggingface") from error

__all__ = ["JinaCLIPConfig", "JinaCLIPImageProcessor", "JinaCLIPModel", "JinaCLIPProcessor"]
